"""Makes a C file of a script: its text and the SHA-1 by which Redis knows it. Usage: embed.py token_bucket.lua out.c token_bucket"""
import hashlib
import sys

script = open(sys.argv[1], "rb").read()
# Redis reads it at every connect: comments and indentation stay behind.
lines = [line.strip() for line in script.decode("ascii").splitlines()]
lines = [line for line in lines if line and not line.startswith("--")]
text = "\n".join(lines) + "\n"
name = "sp_" + sys.argv[3]

with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write(f'#include "script.h"\n\nconst char {name}_script[] =\n')
    for line in lines:
        out.write('    "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"\n')
    out.write("    ;\n")
    out.write(f"const size_t {name}_script_len = {len(text)};\n")
    out.write(f'const char {name}_sha1[] = "{hashlib.sha1(text.encode()).hexdigest()}";\n')
