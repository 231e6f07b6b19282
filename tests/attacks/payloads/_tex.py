r"""TeX: all of it between delimiters that some page's typesetter looks for."""

# ruff: noqa: RUF001

TEX = r"""
$\style{cursor:url(@/style?secret=x),auto}{1}$
$\style{background:url(@/style-bg)}{\text{Allow once}}$
$\style{position:fixed;top:0;left:0;width:100vw;height:100vh;background:white}{x}$
$\unicode[x; background:url(@/unicode)]{x41}$
$\unicode[.55,0.05][x;src:url(@/unicode2)]{x22D6}$
$\unicode{x3c}\unicode{x73}$
$\mmlToken{mglyph}[src="@/mglyph"]{x}$
$\mmlToken{mi}[style="background:url(@/token)"]{x}$
$\mmlToken{mo}[href="javascript:window.__pwned=1"]{x}$
$\mmlToken{mtext}[onclick="window.__pwned=1"]{x}$
$\smash{\rlap{\raise{-60em}{\rule{90em}{120em}}}}$
$$\smash{\rlap{\raise{-60em}{\rule{90em}{120em}}}}$$
$\smash{\rlap{\lower{40em}{\bbox[white]{\text{Always allow 'ls'}}}}}$
$\bbox[white,5px,border:2px solid red]{\text{Allow once}}$
$\bbox[background:url(@/bbox)]{x}$
$\bbox[1000px,white]{\text{Reject}}$
$\llap{\hspace{-9999em}\text{left}}$
$\rlap{\hspace{-50em}\rule{100em}{100em}}$
$\clap{\Huge\Huge\Huge x}$
$\mathrlap{\rule{99em}{99em}}$
$\moveleft 60em \rule{99em}{99em}$
$\moveright -60em \hbox{\rule{99em}{99em}}$
$\raise -60em \hbox{\color{white}\rule{99em}{99em}}$
$\raisebox{-50em}[0pt][0pt]{\rule{99em}{99em}}$
$\kern-90em\rule{99em}{99em}$
$\mkern-9999mu x$
$\mskip-9999mu x$
$\hskip-9999pt x$
$\hspace{-9999pt}\rule{9999pt}{9999pt}$
$\vcenter{\rule{9999em}{9999em}}$
$\phantom{\rule{9999em}{9999em}}$
$\vphantom{\rule{0pt}{9999em}}x$
$\rule[-9999em]{9999em}{9999em}$
$\Rule{9999em}{9999em}{9999em}$
$\Space{-9999em}{0em}{0em}x$
$\strut\mathstrut\Huge\HUGE\huge x$
$\mathmakebox[0pt]{\rule{99em}{99em}}$
$\colorbox{white}{\text{Always allow 'ls'}}$
$\fcolorbox{red}{white}{\text{Allow once}}$
$\color{transparent}{hidden}$
$\textcolor{white}{\text{hidden words}}$
$\definecolor{x}{RGB}{255,255,255}\color{x}{hidden}$
$\def\frac#1#2{\text{owned}}\frac12$
$\gdef\frac#1#2{\text{owned}}$
$\global\def\sqrt#1{\text{owned}}$
$\let\frac\sqrt$
$\newcommand{\owned}{1}\renewcommand{\frac}[2]{\text{owned}}$
$\renewcommand\alpha{\href{javascript:window.__pwned=1}{x}}$
$\newenvironment{matrix}{\text{owned}}{}$
$\renewenvironment{matrix}{\text{owned}}{}$
$\DeclareMathOperator{\sin}{owned}$
$\DeclarePairedDelimiter{\abs}{(}{)}$
$\begingroup\def\frac{x}\endgroup$
$\edef\x{\frac}\expandafter\def\x#1#2{1}$
$\def\x{\x\x}\x$
$\def\a{\b\b}\def\b{\c\c}\def\c{\d\d}\def\d{\e\e}\def\e{xxxxxxxx}\a\a\a\a$
$\require{html}\href{javascript:window.__pwned=1}{x}$
$\require{action}\texttip{x}{y}\mathtip{x}{y}\toggle{a}{b}\endtoggle$
$\require{unicode}\require{bbox}\require{autoload}$
$\require{../../../../api/shutdown}$
$\require{@/extension.js}$
$\href{javascript:window.__pwned=1}{x}$
$\href{java\	script:window.__pwned=1}{click}$
$\href{JaVaScRiPt:window.__pwned=1}{x}$
$\href{data:text/html,<script>window.__pwned=1</script>}{x}$
$\href{file:///etc/passwd}{x}$
$\href{vscode://settings}{x}$
$\href{/api/shutdown}{x}$
$\href{//@host/x}{x}$
$\href{@/href}{x}$
$\url{javascript:window.__pwned=1}$
$\htmlData{reply=once}{x}\htmlId{main}{x}\htmlClass{agent-once}{x}$
$\htmlStyle{background:url(@/htmlstyle)}{x}$
$\includegraphics[height=9em]{@/includegraphics.png}$
$\class{agent-once}{\text{Allow once}}$
$\cssId{jupyterapp}{x}$
$\class{jp-Dialog}{\cssId{main}{x}}$
$\data{command=notebook:restart}{x}$
$\tag{\href{javascript:window.__pwned=1}{1}}$
$$x\tag{\style{background:url(@/tag)}{1}}$$
$$x\label{eq:1}$$ and \ref{eq:1} and \eqref{eq:1}
\ref{x} \eqref{y} \pageref{z}
\(\style{cursor:url(@/paren),auto}{1}\)
\[\style{cursor:url(@/bracket),auto}{1}\]
\\(\style{cursor:url(@/double),auto}{1}\\)
\\[\smash{\rlap{\rule{90em}{120em}}}\\]
\begin{equation}\style{background:url(@/equation)}{x}\end{equation}
\begin{align}\def\frac{x}a&=b\end{align}
\begin{align*}\href{javascript:window.__pwned=1}{x}&=b\end{align*}
\begin {equation}\smash{\rule{99em}{99em}}\end {equation}
\begin{gather}\unicode[x;background:url(@/gather)]{x41}\end{gather}
\begin{CD}A @>\href{javascript:window.__pwned=1}{x}>> B\end{CD}
\begin{empheq}[box=\bbox[white]]{align}x\end{empheq}
\begin{array}{c}\hline\rule{99em}{99em}\end{array}
\begin{xy}\xymatrix{A \ar[r] & B}\end{xy}
\begin{tikzpicture}\draw (0,0) -- (99,99);\end{tikzpicture}
\begin{document}\input{/etc/passwd}\end{document}
$$\begin{array}{*{9999}{c}}x\end{array}$$
$\genfrac{\style{background:url(@/genfrac)}{(}}{)}{9999pt}{}{a}{b}$
$\above9999pt$ $a\above9999pt b$
$\left.\rule{0pt}{9999em}\right|$
$\Biggl\Biggl\Biggl(\middle|$
$\mathchoice{\rule{99em}{99em}}{b}{c}{d}$
$\cancel{\enclose{updiagonalstrike}[mathcolor="url(@/enclose)"]{x}}$
$\enclose{box}[style="background:url(@/enclose2)"]{x}$
$\ce{$\href{javascript:window.__pwned=1}{x}$}$
$\text{$\style{background:url(@/nested)}{x}$}$
$\mbox{\style{background:url(@/mbox)}{x}}$
$\verb|\style|\verb!$!\style{background:url(@/verb)}{x}$
$\input{/etc/passwd}\include{x}\write18{touch /tmp/pwned}$
$\csname style\endcsname{background:url(@/csname)}{x}$
$\catcode`\@=11\makeatletter\@ifnextchar$
$\char"3C\char"73 \symbol{60}$
$^^5cstyle{background:url(@/caret)}{x}$
$\\style{background:url(@/twoslash)}{x}$
$ \style {background:url(@/space)} {x} $
$\style%comment⏎{background:url(@/percent)}{x}$
$$⏎\style{background:url(@/lines)}{x}⏎$$
$<img src=x onerror=window.__pwned=1>$
$\text{<script>window.__pwned=1</script>}$
$\text{</span></math><img src=x onerror=window.__pwned=1>}$
$\mathrm{"><img src=x onerror=window.__pwned=1>}$
$a</code><img src=x onerror=window.__pwned=1>b$
costs $5 up to $7 each
costs \$5 up to \$7 each $\style{background:url(@/dollar)}{x}$
$x$$\style{background:url(@/adjacent)}{x}$$y$
`$\style{background:url(@/ticks)}{x}$`
$`\style{background:url(@/gitlab)}{x}`$
```math⏎\style{background:url(@/fence)}{x}⏎```
{{{{{{{{{{$\frac{{{{{{{{{{x
$}{\style{background:url(@/braces)}{x}}{$
$\frac{1}{2$ and $\end{x}$
`\style{cursor:url(@/asciimath)}`
<span>$</span>\style{background:url(@/spans)}{x}<span>$</span>
<br>$\style{background:url(@/br)}<br>{x}$
$<!-- -->\style{background:url(@/htmlcomment)}<!-- -->{x}$
$&#92;style{background:url(@/entity)}{x}$
&#36;\style{background:url(@/entity2)}{x}&#36;
&dollar;\style{background:url(@/entity3)}{x}&dollar;
<script type="math/tex">\style{background:url(@/mathtex)}{x}</script>
<script type="math/tex; mode=display">\def\frac{x}</script>
<script type="math/mml"><math href="javascript:window.__pwned=1"></math></script>
<span class="math-tex">\(\style{background:url(@/mathtexclass)}{x}\)</span>
<mjx-container jax="SVG"><svg onload=window.__pwned=1></svg></mjx-container>
$\text{\$}x\text{\$}$ $\mathtt{\$}x\mathtt{\$}$
$＼style{background:url(@/fwb)}{x}$ ＄\style{background:url(@/fw)}{x}＄
$\begin{align}x\label{"><img src=x onerror=window.__pwned=1>}\end{align}$
$\begin{array}{c}\hline\hline\hline x\\\hline\hline\end{array}$
$\text{k0}\text{k1}$ $\mathrm{k0}k1\text{x}$ $\mathtt{k9}$
$\text{&lt;img src=x onerror=window.__pwned=1&gt;}$
$$⏎x⏎⏎\style{background:url(@/blank)}{y}⏎$$
"""
