// Batch normalization with the ReLU after it.
//
// `stats` is `[4, channel]`: mean, one over the deviation, their product with the learned scale, learned shift.
// `partial` is `[block, 2, channel]`. As on the CPU, sums are relative to the first pixel or to the mean.
#pragma once
#include "common.cuh"

template <class T, int V>
__device__ void norm_moments(const T *values, long long n_pixels, int n_channels, float *partial) {
    const Place<V> place(n_channels);
    float sums[2][V] = {};
    if (place.inside) {
        float base[V];
        load<T, V>(values + place.channel, base);
        for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
            float value[V];
            load<T, V>(values + pixel * n_channels + place.channel, value);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float distance = value[v] - base[v];
                sums[0][v] += distance;
                sums[1][v] = fmaf(distance, distance, sums[1][v]);
            }
        }
    }
    store_partial<2, V>(sums, n_channels, partial);
}

// Sum of one column of `partial` over all blocks, for a block of (channels, blockDim.y); valid where threadIdx.y is 0.
__device__ inline double column_sum(const float *partial, int n_blocks, int n, int count, int n_channels, int channel) {
    __shared__ double sums[THREADS];
    double sum = 0.0;
    if (channel < n_channels) {
        for (int block = threadIdx.y; block < n_blocks; block += blockDim.y) {
            sum += partial[(static_cast<long long>(block) * count + n) * n_channels + channel];
        }
    }
    __syncthreads();
    sums[thread_number()] = sum;
    __syncthreads();
    if (threadIdx.y == 0) {
        for (int y = 1; y < static_cast<int>(blockDim.y); ++y) sum += sums[y * blockDim.x + threadIdx.x];
    }
    return sum;
}

template <class T>
__device__ void norm_finish_training(const float *partial, int n_blocks, const T *values, long long n_pixels,
                                     int n_channels, const float *scale, const float *shift, double epsilon,
                                     double momentum, float *running_mean, float *running_variance, float *stats) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    const double plain = column_sum(partial, n_blocks, 0, 2, n_channels, channel);
    const double squares = column_sum(partial, n_blocks, 1, 2, n_channels, channel);
    if (threadIdx.y != 0 || channel >= n_channels) return;
    const double count = static_cast<double>(n_pixels);
    const double offset = plain / count;
    const double mean = static_cast<double>(widen(values[channel])) + offset;
    const double variance = fmax(squares / count - offset * offset, 0.0);
    const double unbiased = variance * count / fmax(count - 1.0, 1.0);
    running_mean[channel] = static_cast<float>((1.0 - momentum) * running_mean[channel] + momentum * mean);
    running_variance[channel] = static_cast<float>((1.0 - momentum) * running_variance[channel] + momentum * unbiased);
    const float inv_std = static_cast<float>(1.0 / sqrt(variance + epsilon));
    stats[channel] = static_cast<float>(mean);
    stats[n_channels + channel] = inv_std;
    stats[2 * n_channels + channel] = scale[channel] * inv_std;
    stats[3 * n_channels + channel] = shift[channel];
}

extern "C" __global__ void norm_finish_inference(const float *mean, const float *variance, const float *scale,
                                                 const float *shift, double epsilon, int n_channels, float *stats) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= n_channels) return;
    const float inv_std = static_cast<float>(1.0 / sqrt(static_cast<double>(variance[channel]) + epsilon));
    stats[channel] = mean[channel];
    stats[n_channels + channel] = inv_std;
    stats[2 * n_channels + channel] = scale[channel] * inv_std;
    stats[3 * n_channels + channel] = shift[channel];
}

// Mean, factor and shift of V channels; the pre-activation is `(value - mean) * factor + shift`.
template <int V> struct Line {
    float mean[V], factor[V], shift[V];

    __device__ Line(const float *stats, int n_channels, int channel) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            mean[v] = stats[channel + v];
            factor[v] = stats[2 * n_channels + channel + v];
            shift[v] = stats[3 * n_channels + channel + v];
        }
    }
};

template <class T, int V>
__device__ void norm_forward(const T *values, const float *stats, long long n_pixels, int n_channels, T *output) {
    const Place<V> place(n_channels);
    if (!place.inside) return;
    const Line<V> line(stats, n_channels, place.channel);
    for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
        float value[V];
        load<T, V>(values + pixel * n_channels + place.channel, value);
#pragma unroll
        for (int v = 0; v < V; ++v) value[v] = fmaxf(fmaf(value[v] - line.mean[v], line.factor[v], line.shift[v]), 0.0f);
        store<T, V>(output + pixel * n_channels + place.channel, value);
    }
}

template <class T, int V>
__device__ void norm_gradient_sums(const T *gradient, const T *values, const float *stats, long long n_pixels,
                                   int n_channels, float *partial) {
    const Place<V> place(n_channels);
    float sums[2][V] = {};
    if (place.inside) {
        const Line<V> line(stats, n_channels, place.channel);
        for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
            float value[V], passed[V];
            load<T, V>(values + pixel * n_channels + place.channel, value);
            load<T, V>(gradient + pixel * n_channels + place.channel, passed);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float distance = value[v] - line.mean[v];
                const bool open = fmaf(distance, line.factor[v], line.shift[v]) > 0.0f;
                sums[0][v] += open ? passed[v] : 0.0f;
                sums[1][v] += open ? passed[v] * distance : 0.0f;
            }
        }
    }
    store_partial<2, V>(sums, n_channels, partial);
}

// Gradients of scale and shift, and `slopes` `[2, channel]`: factor of (value - mean), and offset.
extern "C" __global__ void norm_finish_gradient(const float *partial, int n_blocks, const float *stats, const float *scale,
                                                long long n_pixels, int n_channels, float *to_scale, float *to_shift,
                                                float *slopes) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    const double plain = column_sum(partial, n_blocks, 0, 2, n_channels, channel);
    const double weighted = column_sum(partial, n_blocks, 1, 2, n_channels, channel);
    if (threadIdx.y != 0 || channel >= n_channels) return;
    const double inv_std = stats[n_channels + channel];
    const double factor = scale[channel] * inv_std / static_cast<double>(n_pixels);
    slopes[channel] = static_cast<float>(-factor * weighted * inv_std * inv_std);
    slopes[n_channels + channel] = static_cast<float>(-factor * plain);
    to_scale[channel] = static_cast<float>(weighted * inv_std);
    to_shift[channel] = static_cast<float>(plain);
}

// Replaces the values that normalization saw by their gradient.
template <class T, int V>
__device__ void norm_backward(const T *gradient, T *values, const float *stats, const float *slopes, long long n_pixels,
                              int n_channels) {
    const Place<V> place(n_channels);
    if (!place.inside) return;
    const Line<V> line(stats, n_channels, place.channel);
    float slope[V], offset[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        slope[v] = slopes[place.channel + v];
        offset[v] = slopes[n_channels + place.channel + v];
    }
    for (long long pixel = place.pixel; pixel < n_pixels; pixel += place.stride) {
        const long long at = pixel * n_channels + place.channel;
        float value[V], passed[V];
        load<T, V>(values + at, value);
        load<T, V>(gradient + at, passed);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float distance = value[v] - line.mean[v];
            const bool open = fmaf(distance, line.factor[v], line.shift[v]) > 0.0f;
            const float rest = fmaf(distance, slope[v], offset[v]);
            value[v] = open ? fmaf(passed[v], line.factor[v], rest) : rest;
        }
        store<T, V>(values + at, value);
    }
}

#define NORM_KERNELS(NAME, T, V) \
    extern "C" __global__ void norm_moments_##NAME##_##V(const T *values, long long n_pixels, int n_channels, \
                                                         float *partial) { \
        norm_moments<T, V>(values, n_pixels, n_channels, partial); \
    } \
    extern "C" __global__ void norm_forward_##NAME##_##V(const T *values, const float *stats, long long n_pixels, \
                                                         int n_channels, T *output) { \
        norm_forward<T, V>(values, stats, n_pixels, n_channels, output); \
    } \
    extern "C" __global__ void norm_gradient_sums_##NAME##_##V(const T *gradient, const T *values, const float *stats, \
                                                               long long n_pixels, int n_channels, float *partial) { \
        norm_gradient_sums<T, V>(gradient, values, stats, n_pixels, n_channels, partial); \
    } \
    extern "C" __global__ void norm_backward_##NAME##_##V(const T *gradient, T *values, const float *stats, \
                                                          const float *slopes, long long n_pixels, int n_channels) { \
        norm_backward<T, V>(gradient, values, stats, slopes, n_pixels, n_channels); \
    }

#define NORM_FINISH(NAME, T) \
    extern "C" __global__ void norm_finish_training_##NAME( \
        const float *partial, int n_blocks, const T *values, long long n_pixels, int n_channels, const float *scale, \
        const float *shift, double epsilon, double momentum, float *running_mean, float *running_variance, \
        float *stats) { \
        norm_finish_training<T>(partial, n_blocks, values, n_pixels, n_channels, scale, shift, epsilon, momentum, \
                                running_mean, running_variance, stats); \
    }

FOR_NUMBERS(NORM_KERNELS)
NORM_FINISH(f32, float)
NORM_FINISH(bf16, bf16)
