"""The counting protocol for any number of threads and pages.

Numbers stand for threads: not *who* is about to give back a hold is kept, but how many are. An invariant that every step keeps then
holds for any number of them. Steps are atomic and in one order (sequential consistency): each is one atomic step of the code.
"""

from .block import BLOCK
from .found import FOUND
from .marks import MARKS
from .parts import PARTS
from .token import TOKEN

MACHINES = (BLOCK, PARTS, MARKS, FOUND, TOKEN)
