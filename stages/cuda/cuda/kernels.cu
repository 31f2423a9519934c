// All kernels of the networks: one module.
#include "norm.cuh"
#include "spatial.cuh"
#include "linear.cuh"
#include "loss.cuh"
#include "adam.cuh"
