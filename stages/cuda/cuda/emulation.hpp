// The part of CUDA that the kernels use, on the CPU: each thread of a block is a fiber, barriers switch between them.
#pragma once

#include <cmath>
#include <cstring>

#define __device__
#define __global__
// Blocks run one after the other on one thread of the machine, so a static variable is a block's shared memory.
#define __shared__ static

struct Index {
    unsigned int x, y, z;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;

// Lets the other threads of the block run until all of them are here. `line` tells barriers apart.
void emulated_barrier(int line);
#define __syncthreads() emulated_barrier(__LINE__)

inline float __uint_as_float(unsigned int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned int __float_as_uint(float value) {
    unsigned int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

using std::exp;
using std::fabs;
using std::fmax;
using std::fmin;
using std::log;
using std::log1p;
using std::pow;
using std::sqrt;
