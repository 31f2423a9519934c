// What all kernels share: numbers, vectors of channels, and sums over the threads of a block.
//
// The same source is compiled by nvcc or NVRTC for the GPU and, with EMULATED, as plain C++ by the tests.
// Buffers are channels-last. Sums are taken in a fixed order and without atomics, so a step repeats its bytes.
#pragma once

#ifdef EMULATED
#include "emulation.hpp"
#endif

#define THREADS 256
#define MAX_SOURCES 16

// The upper half of an f32.
struct bf16 {
    unsigned short bits;
};

__device__ inline float widen(float value) { return value; }

__device__ inline float widen(bf16 value) {
    return __uint_as_float(static_cast<unsigned int>(value.bits) << 16);
}

template <class T> __device__ T narrow(float value);

template <> __device__ inline float narrow<float>(float value) { return value; }

// Rounds to the nearest, ties to even; NaN stays NaN.
template <> __device__ inline bf16 narrow<bf16>(float value) {
    unsigned int bits = __float_as_uint(value);
    bf16 rounded;
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        rounded.bits = static_cast<unsigned short>((bits >> 16) | 0x40u);
    } else {
        rounded.bits = static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
    return rounded;
}

// V neighbouring channels, loaded and stored at once.
template <class T, int V> struct alignas(sizeof(T) * V) Pack {
    T values[V];
};

template <class T, int V> __device__ inline void load(const T *from, float (&to)[V]) {
    Pack<T, V> pack = *reinterpret_cast<const Pack<T, V> *>(from);
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = widen(pack.values[v]);
}

template <class T, int V> __device__ inline void store(T *to, const float (&from)[V]) {
    Pack<T, V> pack;
#pragma unroll
    for (int v = 0; v < V; ++v) pack.values[v] = narrow<T>(from[v]);
    *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

// Number of this thread in its block.
__device__ inline int thread_number() { return threadIdx.y * blockDim.x + threadIdx.x; }

// Number of this thread in a grid of one axis, and the number of threads.
__device__ inline long long global_thread() {
    return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ inline long long global_threads() {
    return static_cast<long long>(gridDim.x) * blockDim.x;
}

// Sum of `value` over the THREADS threads of a block of one axis; every thread gets it.
__device__ inline double block_sum(double value) {
    __shared__ double sums[THREADS];
    __syncthreads();
    sums[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    return sums[0];
}

// Where a thread of a channel kernel works: its first channel, its pixels, and whether it has any.
//
// Blocks are (lanes, pixels) with lanes of V channels; the grid is (pixel groups, lane groups).
template <int V> struct Place {
    int channel;
    long long pixel, stride;
    bool inside;

    __device__ explicit Place(int n_channels) {
        channel = (blockIdx.y * blockDim.x + threadIdx.x) * V;
        pixel = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
        stride = static_cast<long long>(gridDim.x) * blockDim.y;
        inside = channel < n_channels;
    }
};

// Adds up N sums of V channels over the pixels of a block; writes `[block, N, channel]`.
template <int N, int V>
__device__ inline void store_partial(const float (&sums)[N][V], int n_channels, float *partial) {
    __shared__ float all[N * THREADS * V];
    const int n_lanes = blockDim.x * V;
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
        for (int v = 0; v < V; ++v) all[(n * blockDim.y + threadIdx.y) * n_lanes + threadIdx.x * V + v] = sums[n][v];
    __syncthreads();
    for (int at = thread_number(); at < N * n_lanes; at += blockDim.x * blockDim.y) {
        const int n = at / n_lanes, lane = at % n_lanes;
        const int channel = blockIdx.y * n_lanes + lane;
        float sum = 0.0f;
        for (int y = 0; y < static_cast<int>(blockDim.y); ++y) sum += all[(n * blockDim.y + y) * n_lanes + lane];
        if (channel < n_channels) {
            partial[(static_cast<long long>(blockIdx.x) * N + n) * n_channels + channel] = sum;
        }
    }
}

// Instantiates a channel kernel for both numbers, with and without vectors.
#define FOR_NUMBERS(KERNEL) \
    KERNEL(f32, float, 1) \
    KERNEL(f32, float, 4) \
    KERNEL(bf16, bf16, 1) \
    KERNEL(bf16, bf16, 8)
