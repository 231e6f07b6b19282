"""The program that runs inside every container, and how it gets there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BOOTSTRAP = """
import json,os,sys,types
n=int(os.read(0,8));b=b''
while len(b)<n:
    c=os.read(0,n-len(b))
    if not c:os._exit(97)
    b+=c
b=json.loads(b)
p=types.ModuleType('agentd');p.__path__=[];sys.modules['agentd']=p
for k,s in b['modules']:
    m=types.ModuleType('agentd.'+k);m.__package__='agentd';sys.modules[m.__name__]=m
    exec(compile(s,'<agentd/'+k+'>','exec',dont_inherit=True),m.__dict__)
sys.modules['agentd.main'].main(b['config'])
"""
"""Run as `python -I -S -c BOOTSTRAP`; it takes the program from stdin: nothing to install inside,
no mount, no long command line."""

_MODULES = (  # in the order they import each other
    "protocol",
    "processes",
    "landlock",
    "capture",
    "outlet",
    "watchdog",
    "supervisor",
    "trees",
    "files",
    "commands",
    "network",
    "main",
)


def bundle(config: dict[str, Any]) -> bytes:
    """What goes to the stdin of the bootstrap: eight digits of length, the modules, the config."""
    folder = Path(__file__).parent
    modules = [(name, (folder / f"{name}.py").read_text("utf-8")) for name in _MODULES]
    body = json.dumps({"modules": modules, "config": config}).encode()
    return b"%8d" % len(body) + body
