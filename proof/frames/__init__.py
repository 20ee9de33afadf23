"""Mutated frames of the venues at the bot's decoding boundary: `python -m proof.frames`. No escape, no growth.

corpus    frames as recorded: hand-written ones of the same shape, those of a file, those of a paper exchange that runs
mutate    one frame to an odd one, in its bytes or in its fields
doors     where each kind of frame comes in, and what the bot does with what came of it
"""
