"""One thread, whoever starts the tests: two processes with two threads each wait for each other."""

import torch

torch.set_num_threads(1)
