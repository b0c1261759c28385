"""What a file may claim before it is believed; the reasons stand in docs/weights.md, Limits.

Any file of at most 16 MiB is to be read or refused within 5 s and 500 MB. What people have is far
below each bound: DiT-XL with its averaged weights and its optimiser has 1,500 tensors.
"""

MAX_TENSORS = 2**16  # names in a file, also of a zip
MAX_HEADER_BYTES = 2**22  # of a .safetensors file: 64 bytes for each of so many tensors
MAX_INDEX_BYTES = 2**22  # the list of members at the end of a zip
MAX_WORK = 2**19  # instructions of a pickle and values that they move; DiT-XL with all needs 2**16,
# and the losses of 400,000 steps, as published models were trained, may lie beside them
MAX_MARKS = 2**10  # groups open at a time, each inside the one before; torch needs 10
MAX_ODD_KEYS = 2**10  # of dicts, that are no text and no small number: their hashes can be chosen
SMALL_KEY = 2**20  # parameters of an optimiser are numbered from 0
TEXT_PER_VALUE = 64  # characters that are compared or copied in the time of one instruction
MAX_BLOCKS = 80  # of a network that a file describes: tracing one takes 40 ms; DiT-XL has 28
MAX_TABLE = 2**25  # numbers of a fixed table, 128 MB: 29,000 tokens of DiT-XL, 2,700 x 2,700 pixels
SMALL_TABLE = 2**20  # numbers of one that is made even if it cannot fit: then all misfits are told
MAX_SHARING = 4  # bytes of all tensors for one of the file, where they share their numbers
SMALL_FILE = 2**24  # bytes; tensors of smaller files may still make so much of it
