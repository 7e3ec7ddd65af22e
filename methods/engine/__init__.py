"""Value and gradient in closed form: over tiles, over ranks and in mixed precision.

Names end in their shape:

| | |
|---|---|
| N, n | rows of a view: of all ranks, of this rank |
| M | rows of all views, VN |
| D | embedding dimension |
| V, P | views, pairs of views |
| R, C | rows and columns of a tile or block |

A trailing underscore writes in place, as torch has it; by_x is a derivative by x.
"""
