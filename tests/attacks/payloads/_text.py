"""Markdown, addresses, terminal sequences, characters that hide or reorder, and odd sizes."""

# ruff: noqa: E501, RUF001

MARKDOWN = r"""
![pixel](@/pixel.png)
![pixel][p]  [p]: @/ref-pixel.png
![a](@/a.png "title\" onerror=window.__pwned=1 x=\"")
![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9IndpbmRvdy5fX3B3bmVkPTEiLz4=)
![x](javascript:window.__pwned=1)
![x](attachment:x.png)
[![x](@/linked.png)](https://example.org/)
<@/autolink>
[a](javascript:window.__pwned=1)
[a](<javascript:window.__pwned=1>)
[a](JaVaScRiPt:window.__pwned=1)
[a](&#106;avascript:window.__pwned=1)
[a](javascript&colon;window.__pwned=1)
[a](javascript&#x3A;window.__pwned=1)
[a](java&Tab;script:window.__pwned=1)
[a](java	script:window.__pwned=1)
[a](\x01javascript:window.__pwned=1)
[a]( javascript:window.__pwned=1)
[a](javascript%3Awindow.__pwned=1)
[a](vbscript:window.__pwned=1)
[a](livescript:window.__pwned=1)
[a](view-source:javascript:window.__pwned=1)
[a](data:text/html,<script>window.__pwned=1</script>)
[a](data:text/html;base64,PHNjcmlwdD5wYXJlbnQuX19wd25lZD0xPC9zY3JpcHQ+)
[a](blob:https://example.org/x)
[a](filesystem:https://example.org/x)
[a](file:///etc/passwd)
[a](vscode://file/etc/passwd)
[a](ms-msdt:/id PCWDiagnostic)
[a](search-ms:query=x)
[a](ssh://x) [b](ftp://x) [c](tel:1) [d](sms:1) [e](intent://x) [f](steam://x)
[a](ws://x) [b](about:blank) [c](chrome://settings) [d](jar:https://x!/y) [e](cid:x)
[a](//@host/protocol-relative)
[a](\\\\@host\\share)
[a](/\\@host/x)
[a](https:/\\@host)
[a](https:example.org)
[a](/api/shutdown)
[a](/api/contents?x)
[a](../../lab?reset)
[a](?reset)
[a](#jupyterapp)
[a](lab/tree/x.ipynb)
[a](http://user:password@example.org/)
[a](https://accounts.google.com@evil.example/)
[https://example.org](https://evil.example)
[paypal.com](https://evil.example/login)
[a](https://еxample.org/)
[a](https://xn--80ak6aa92e.com/)
[a](https://example.org/\u202egnp.exe)
[a](http://[::1]:8888/api/shutdown)
[a](http://0x7f000001/) [b](http://127.1/api/kernels)
[a](mailto:x@example.org?body=%0d%0aBcc:all)
[a](mailto:javascript:window.__pwned=1)
[a](https://example.org/" onmouseover="window.__pwned=1)
[a](https://example.org/'onclick='window.__pwned=1)
[a](https://example.org/ "x\" onclick=window.__pwned=1 y=\"")
[a](https://example.org/ 'x" onmouseover="window.__pwned=1')
[r]: javascript:window.__pwned=1⏎[click][r]
<javascript:window.__pwned=1>
<vbscript:x> <data:text/html,x> <file:///etc/passwd>
<mailto:x@example.org" onclick="window.__pwned=1>
https://example.org/"><img src=x onerror=window.__pwned=1>
www.evil.example/<script>window.__pwned=1</script>
```"><script>window.__pwned=1</script>⏎code⏎```
```html onload=window.__pwned=1 class="x" style="y"⏎<b>⏎```
~~~ {.python #jupyterapp onclick=window.__pwned=1}⏎x⏎~~~
``` ${alert(1)} $\style{background:url(@/info)}{x}$⏎x⏎```
`<img src=x onerror=window.__pwned=1>`
    <script>window.__pwned=1</script>
| <img src=x onerror=window.__pwned=1> | $\style{background:url(@/th)}{x}$ |⏎|---|---|⏎| <script>window.__pwned=1</script> | $\rule{99em}{99em}$ |⏎|a|⏎|:-style="x"-:|⏎|b|
- [ ] <input type=checkbox onclick=window.__pwned=1>
- [x](javascript:window.__pwned=1)
1. <iframe src="@/ol">
999999999. x
> <blockquote cite="@/cite">x</blockquote>
# <h1 onclick=window.__pwned=1>
# heading {#jupyterapp onclick=window.__pwned=1}
[^1]: <script>window.__pwned=1</script>  text[^1]
*[HTML]: <img src=x onerror=window.__pwned=1>
:::{raw} html⏎<script>window.__pwned=1</script>⏎:::
{raw}`<script>window.__pwned=1</script>`
{{ config }} {% raw %} {{7*7}} <% 7*7 %> ${7*7} #{7*7}
{eval}`__import__('os')`
%%html⏎<script>window.__pwned=1</script>
%%javascript⏎window.__pwned=1
---⏎title: x⏎mermaid: true⏎---
```mermaid⏎graph TD; A["<img src=x onerror=window.__pwned=1>"]-->B; click A "javascript:window.__pwned=1"⏎```
```dot⏎digraph{a[URL="javascript:window.__pwned=1"]}⏎```
***<b onclick=window.__pwned=1>*** ~~<i>~~
\<img src=x onerror=window.__pwned=1\>
&lt;script&gt;window.__pwned=1&lt;/script&gt;
a⏎⏎![x](@/afterblank.png)⏎⏎<img src=@/rawafter.png>⏎⏎[x](javascript:window.__pwned=1)⏎⏎$\style{background:url(@/afterblank)}{x}$
Setext <script>window.__pwned=1</script>⏎======⏎⏎![x](@/setext.png)⏎---
~~~⏎```⏎~~~⏎![x](@/fence1.png)⏎```⏎![x](@/fence2.png)⏎~~~
<!-- comment⏎⏎![x](@/comment.png)⏎-->⏎⏎[a](javascript:window.__pwned=1)
![[@/obsidian.png]] [[javascript:window.__pwned=1]]
[^1]⏎⏎[^1]: ![x](@/foot.png)⏎    <img src=x onerror=window.__pwned=1>
"""

TERMINAL = [
    "\x1b]0;window title\x07",
    "\x1b]2;title\x1b\\",
    "\x1b]8;;javascript:window.__pwned=1\x07click\x1b]8;;\x07",
    "\x1b]8;;@/osc8\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "\x1b]1337;File=inline=1:AAAA\x07",
    "\x1b]4;1;rgb:ff/ff/ff\x07",
    "\x1b]7;file://host/\x07",
    "\x1b[2J\x1b[H",
    "\x1b[8mhidden\x1b[0m",
    "\x1b[30;40minvisible\x1b[0m",
    "\x1b[1A\x1b[2Kgone",
    "\x1b[6n\x1b[c\x1b[0c\x1b[>c",
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?1000h\x1b[?2004h",
    "\x1bP+q544e\x1b\\",
    "\x1bPq#0;2;0;0;0#0~~\x1b\\",
    "\x1b_Gf=100;AAAA\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bX string \x1b\\",
    "\x1bc",
    "\x1b#8",
    "\x1b(0lqqk\x1b(B",
    "\x1bN\x1bO\x1b=\x1b>",
    "\x9b31mred\x9b0m",
    "\x9d0;title\x9c",
    "\x90q\x9c \x9fG\x9c \x9ep\x9c",
    "\x1b[31;999999999999999999m",
    "\x1b[38;2;255;255;255m\x1b[48;2;255;255;255mwhite\x1b[0m",
    "\x1b[999999999C far \x1b[999999999B down",
    "half \x1b[",
    "half \x1b]0;never ended",
    "rm -rf / #\rls -l        ",
    "rm -rf /\r\x1b[Kls",
    "ls\b\brm",
    "rm -rf /" + "\b" * 8 + "ls      ",
    "a\x0bb\x0cc",
    "\x0e shift out \x0f",
    "\x05enquiry\x07bell\x7fdelete",
    "null \x00 here",
    "\x85next line",
    "\x1a\x04\x03",
    "\x1b\x1b\x1b[31m\x1b",
    "\x1b[31m<script>window.__pwned=1</script>\x1b[0m",
    "\x1b[31m$\\style{background:url(@/ansi)}{x}$\x1b[0m",
    "<\x1b[0mscript>window.__pwned=1</script>",
    "java\x1b[0mscript:window.__pwned=1",
]

BIDI = [
    "echo \u202e# fr- mr\u202c",
    "\u202ehtml.exe\u202c",
    "\u202d\u202a\u202b override",
    "if admin \u2066# check\u2069 \u2066",
    "/*\u202e } \u2066if (isAdmin)\u2069 \u2066 begin admins only */",
    "\u2067rtl isolate\u2069",
    "\u2068first strong",
    "\u061carabic mark \u200e \u200f",
    "\u202e" * 500 + "deep",
    "\u2066" * 200 + "deep" + "\u2069" * 3,
    "rm\u200b -rf\u200b /",
    "rm\u200c\u200d -rf /",
    "rm\ufe0f -rf /\ufe0e",
    "ls\U000e0100\U000e01ef",
    "ls" + "".join(chr(0xE0000 + ord(c)) for c in "; rm -rf /"),
    "rm\u00ad -rf /",
    "rm\u115f\u1160\u3164\uffa0-rf",
    "rm\u2800-rf\u2800/",
    "rm\u180e\u180b\u180c\u180d\u180f",
    "rm\u2060\u2061\u2062\u2063\u2064",
    "rm\ufff9a\ufffab\ufffb",
    "rm\u034f\u17b4\u17b5",
    "rm\u206a\u206b\u206c\u206d\u206e\u206f",
    "\ufeffls",
    "rm\u2028-rf\u2029/",
    "rm\u00a0-rf\u2003/\u3000\u202f\u205f",
    "rm\u1680-rf\u2000\u2001\u2002\u2004\u2009\u200a",
    "rm\U0001d173\U0001d174\U0001d17a",
    "rm\U0001bca0\U0001bca3",
    "rm\U00013430\U0001343f",
    "rm\ue000\uf8ff\U000f0000\U0010ffff",
    "rm\ufdd0\uffff\ufffe",
    "rm\u0378\u0530\U0003ffff",
    "\ud800 lone \udfff",
    "\udc80\udcff",
    "аррӏе.com раураl",
    "ｌｓ ＆＆ ｒｍ －ｒｆ ／",
    "ls ; rm",
    "Z" + "\u0300\u0316\u0334" * 300 + "algo",
    "\u0e01" + "\u0e47" * 500,
    "e" + "\u20dd\u20de\u20e4" * 100,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "שלום عربى mixed with ltr 123",
    "می\u200cخواهم",
    "\ufdfd" * 200,
    "\U0001242b" * 100,
    "\u3164" * 400,
    "ﷺ" * 300,
    "<\u200bscript>window.__pwned=1</script>",
    "java\u200bscript:window.__pwned=1",
    "$\u200b\\style{background:url(@/zwsp)}{x}$",
    "$\u202e\\style{background:url(@/rlo)}{x}$",
]

SIZES = [
    "x" * 20_000,
    "x " * 1250,
    "\n" * 500,
    "\t" * 750,
    "W" * 300 + "\n" * 300,
    "<" * 750,
    "&" * 750,
    "$" * 250,
    "$ " * 250,
    "\\(" * 125,
    "\\begin{x}" * 300,
    "`" * 250,
    "[" * 375,
    "![" * 200,
    "> " * 60 + "deep",
    "- " * 60 + "deep",
    "*" * 500,
    "**_" * 175,
    "<b>" * 200,
    "{" * 500,
    "$" + "{" * 400 + "}" * 400 + "$",
    "$" + "\\frac{" * 300 + "x" + "}{y}" * 300 + "$",
    "$" + "\\sqrt{" * 300 + "x" + "}" * 300 + "$",
    "$" + "x^{" * 300 + "y" + "}" * 300 + "$",
    "$" + "\\left(" * 200 + "\\right)" * 200 + "$",
    "$" + "a+" * 1000 + "b$",
    "$$" + "\\begin{matrix}" * 60 + "x" + "\\end{matrix}" * 60 + "$$",
    "$$\\begin{matrix}" + "&" * 500 + "\\end{matrix}$$",
    "$$\\begin{matrix}" + "\\\\" * 500 + "\\end{matrix}$$",
    "|" * 125 + "\n" + "|-" * 125,
    "# " * 200,
    "\r" * 125 + "x",
    "http://" + "a" * 1250,
    "[a](https://" + "a" * 750 + ")",
    "",
    " ",
    "\u00a0",
    ".",
    "-",
    "0",
]
