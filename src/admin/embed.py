#!/usr/bin/env python3
"""embed.py NAME INPUT OUTPUT: INPUT as a NUL-terminated C array called NAME."""
import sys

name, source, target = sys.argv[1:]
with open(source, 'rb') as file:
    numbers = [str(byte) for byte in file.read()] + ['0']
with open(target, 'w', encoding='ascii') as file:
    file.write(f'extern const char {name}[];\nconst char {name}[] = {{\n')
    for at in range(0, len(numbers), 24):
        file.write(','.join(numbers[at:at + 24]) + ',\n')
    file.write('};\n')
