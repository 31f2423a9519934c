// Channel sums, the 1 x 1 convolutions that give logits, and changes of number.
#pragma once
#include "common.cuh"

// Sums of each channel, `[block, channel]`.
template <class T, int V>
__device__ void channel_sums(const T *values, long long n_pixels, int n_channels, float *partial) {
    const Place<V> place(n_channels);
    float sums[1][V] = {};
    if (place.inside) {
        for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
            float value[V];
            load<T, V>(values + pixel * n_channels + place.channel, value);
#pragma unroll
            for (int v = 0; v < V; ++v) sums[0][v] += value[v];
        }
    }
    store_partial<1, V>(sums, n_channels, partial);
}

// Adds up `[block, column]` over the blocks; column (outer, inner) of the sums is (inner, outer) of `output`.
extern "C" __global__ void finish_sums(const float *partial, int n_blocks, int n_outer, int n_inner, float *output) {
    __shared__ double sums[THREADS];
    const int column = blockIdx.x * blockDim.x + threadIdx.x, n_columns = n_outer * n_inner;
    double sum = 0.0;
    if (column < n_columns) {
        for (int block = threadIdx.y; block < n_blocks; block += blockDim.y) {
            sum += partial[static_cast<long long>(block) * n_columns + column];
        }
    }
    sums[thread_number()] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= n_columns) return;
    for (int y = 1; y < static_cast<int>(blockDim.y); ++y) sum += sums[y * blockDim.x + threadIdx.x];
    output[column % n_inner * n_outer + column / n_inner] = static_cast<float>(sum);
}

// Logits `[pixel, output]` of `weights` `[channel, output]`.
template <class T, int V>
__device__ void head_forward(const T *input, const float *weights, const float *bias, long long n_pixels, int n_channels,
                             int n_outputs, float *logits) {
    for (long long pixel = global_thread(); pixel < n_pixels; pixel += global_threads()) {
        for (int output = 0; output < n_outputs; ++output) {
            float sum = bias[output];
            for (int channel = 0; channel < n_channels; channel += V) {
                float value[V];
                load<T, V>(input + pixel * n_channels + channel, value);
#pragma unroll
                for (int v = 0; v < V; ++v) sum = fmaf(value[v], weights[(channel + v) * n_outputs + output], sum);
            }
            logits[pixel * n_outputs + output] = sum;
        }
    }
}

template <class T, int V>
__device__ void head_backward(const float *gradient, const float *weights, long long n_pixels, int n_channels,
                              int n_outputs, int add, T *input_gradient) {
    const int lanes = n_channels / V;
    for (long long at = global_thread(); at < n_pixels * lanes; at += global_threads()) {
        const long long pixel = at / lanes;
        const int channel = static_cast<int>(at % lanes) * V;
        T *target = input_gradient + pixel * n_channels + channel;
        float sum[V] = {};
        if (add != 0) load<T, V>(target, sum);
        for (int output = 0; output < n_outputs; ++output) {
            const float by = gradient[pixel * n_outputs + output];
#pragma unroll
            for (int v = 0; v < V; ++v) sum[v] = fmaf(by, weights[(channel + v) * n_outputs + output], sum[v]);
        }
        store<T, V>(target, sum);
    }
}

// Sums of input times gradient, `[block, output, channel]`; the grid's last axis are the outputs.
template <class T, int V>
__device__ void head_weights(const T *input, const float *gradient, long long n_pixels, int n_channels, int n_outputs,
                             float *partial) {
    const Place<V> place(n_channels);
    const int output = blockIdx.z;
    float sums[1][V] = {};
    if (place.inside) {
        for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
            float value[V];
            load<T, V>(input + pixel * n_channels + place.channel, value);
            const float by = gradient[pixel * n_outputs + output];
#pragma unroll
            for (int v = 0; v < V; ++v) sums[0][v] = fmaf(value[v], by, sums[0][v]);
        }
    }
    // As if blocks were [pixel group, output].
    __shared__ float all[THREADS * V];
    const int n_lanes = blockDim.x * V;
#pragma unroll
    for (int v = 0; v < V; ++v) all[threadIdx.y * n_lanes + threadIdx.x * V + v] = sums[0][v];
    __syncthreads();
    for (int lane = thread_number(); lane < n_lanes; lane += blockDim.x * blockDim.y) {
        const int channel = blockIdx.y * n_lanes + lane;
        float sum = 0.0f;
        for (int y = 0; y < static_cast<int>(blockDim.y); ++y) sum += all[y * n_lanes + lane];
        if (channel < n_channels) {
            partial[(static_cast<long long>(blockIdx.x) * n_outputs + output) * n_channels + channel] = sum;
        }
    }
}

// The input of a net, `[pixel, width]`: image channels, the labels of all sources, zeros up to the width.
template <class T>
__device__ void prepare(const float *images, const float *labels, long long n_pixels, int n_channels, int n_sources,
                        int n_structures, int width, T *output) {
    for (long long at = global_thread(); at < n_pixels * width; at += global_threads()) {
        const long long pixel = at / width;
        const int channel = static_cast<int>(at % width), label = channel - n_channels;
        float value = 0.0f;
        if (channel < n_channels) {
            value = images[pixel * n_channels + channel];
        } else if (label < n_sources * n_structures) {
            value = labels[(label / n_structures * n_pixels + pixel) * n_structures + label % n_structures];
        }
        output[at] = narrow<T>(value);
    }
}

extern "C" __global__ void widen_bf16(const bf16 *from, long long count, float *to) {
    for (long long at = global_thread(); at < count; at += global_threads()) to[at] = widen(from[at]);
}

extern "C" __global__ void narrow_bf16(const float *from, long long count, bf16 *to) {
    for (long long at = global_thread(); at < count; at += global_threads()) to[at] = narrow<bf16>(from[at]);
}

#define LINEAR_KERNELS(NAME, T, V) \
    extern "C" __global__ void channel_sums_##NAME##_##V(const T *values, long long n_pixels, int n_channels, \
                                                         float *partial) { \
        channel_sums<T, V>(values, n_pixels, n_channels, partial); \
    } \
    extern "C" __global__ void head_forward_##NAME##_##V(const T *input, const float *weights, const float *bias, \
                                                         long long n_pixels, int n_channels, int n_outputs, \
                                                         float *logits) { \
        head_forward<T, V>(input, weights, bias, n_pixels, n_channels, n_outputs, logits); \
    } \
    extern "C" __global__ void head_backward_##NAME##_##V(const float *gradient, const float *weights, long long n_pixels, \
                                                          int n_channels, int n_outputs, int add, T *input_gradient) { \
        head_backward<T, V>(gradient, weights, n_pixels, n_channels, n_outputs, add, input_gradient); \
    } \
    extern "C" __global__ void head_weights_##NAME##_##V(const T *input, const float *gradient, long long n_pixels, \
                                                         int n_channels, int n_outputs, float *partial) { \
        head_weights<T, V>(input, gradient, n_pixels, n_channels, n_outputs, partial); \
    }

#define PREPARE(NAME, T) \
    extern "C" __global__ void prepare_##NAME(const float *images, const float *labels, long long n_pixels, \
                                              int n_channels, int n_sources, int n_structures, int width, T *output) { \
        prepare<T>(images, labels, n_pixels, n_channels, n_sources, n_structures, width, output); \
    }

FOR_NUMBERS(LINEAR_KERNELS)
PREPARE(f32, float)
PREPARE(bf16, bf16)
