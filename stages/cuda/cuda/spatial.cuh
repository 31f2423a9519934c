// Max pooling, and the way between an up-convolution's product and the concatenation that its block reads.
#pragma once
#include "common.cuh"

// Axes of a batch of volumes, and how many of them a window or kernel takes.
struct Grid {
    int slices, rows, columns;
    int window_slices, window_rows, window_columns;

    __device__ int taps() const { return window_slices * window_rows * window_columns; }

    // Pixel of the large volume for a tap of a pixel of the small one, which has the axes above.
    // `large_*` are the large volume's axes: a remainder of an axis belongs to no window.
    __device__ long long large(long long small, int tap, int large_slices, int large_rows, int large_columns) const {
        const long long column = small % columns, row = small / columns % rows;
        const long long image = small / columns / rows;
        const long long slice = image % slices, batch = image / slices;
        const int x = tap % window_columns, y = tap / window_columns % window_rows, z = tap / window_columns / window_rows;
        return ((batch * large_slices + slice * window_slices + z) * large_rows + row * window_rows + y) * large_columns +
               column * window_columns + x;
    }
};

template <class T, int V>
__device__ void pool_forward(const T *input, Grid grid, int large_slices, int large_rows, int large_columns,
                             long long n_small, int n_channels, T *output) {
    const int lanes = n_channels / V;
    for (long long at = global_thread(); at < n_small * lanes; at += global_threads()) {
        const long long small = at / lanes;
        const int channel = static_cast<int>(at % lanes) * V;
        float best[V] = {};
        for (int tap = 0; tap < grid.taps(); ++tap) {
            const long long pixel = grid.large(small, tap, large_slices, large_rows, large_columns);
            float value[V];
            load<T, V>(input + pixel * n_channels + channel, value);
#pragma unroll
            for (int v = 0; v < V; ++v) best[v] = tap == 0 || value[v] > best[v] ? value[v] : best[v];
        }
        store<T, V>(output + small * n_channels + channel, best);
    }
}

// Adds the gradient of each output to that of the first input of its window that equals it.
template <class T, int V>
__device__ void pool_backward(const T *input, const T *output, const T *output_gradient, Grid grid, int large_slices,
                              int large_rows, int large_columns, long long n_small, int n_channels, T *input_gradient) {
    const int lanes = n_channels / V;
    for (long long at = global_thread(); at < n_small * lanes; at += global_threads()) {
        const long long small = at / lanes;
        const int channel = static_cast<int>(at % lanes) * V;
        float best[V], gradient[V];
        load<T, V>(output + small * n_channels + channel, best);
        load<T, V>(output_gradient + small * n_channels + channel, gradient);
        bool found[V] = {};
        for (int tap = 0; tap < grid.taps(); ++tap) {
            const long long place =
                grid.large(small, tap, large_slices, large_rows, large_columns) * n_channels + channel;
            float value[V], sum[V];
            load<T, V>(input + place, value);
            load<T, V>(input_gradient + place, sum);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const bool first = !found[v] && value[v] == best[v];
                sum[v] += first ? gradient[v] : 0.0f;
                found[v] = found[v] || first;
            }
            store<T, V>(input_gradient + place, sum);
        }
    }
}

// Writes `joined`, `[pixel, skip channel, up channel]`, from the skip and `product`, `[small pixel, tap, up channel]`.
template <class T, int V>
__device__ void join(const T *skip, const T *product, const float *bias, Grid grid, long long n_small, int n_skip,
                     int n_up, T *joined) {
    const int width = n_skip + n_up, lanes = width / V, taps = grid.taps();
    for (long long at = global_thread(); at < n_small * taps * lanes; at += global_threads()) {
        const int channel = static_cast<int>(at % lanes) * V;
        const int tap = static_cast<int>(at / lanes % taps);
        const long long small = at / lanes / taps;
        const long long pixel = grid.large(small, tap, grid.slices * grid.window_slices, grid.rows * grid.window_rows,
                                           grid.columns * grid.window_columns);
        float value[V];
        if (channel < n_skip) {
            load<T, V>(skip + pixel * n_skip + channel, value);
        } else {
            load<T, V>(product + (small * taps + tap) * n_up + channel - n_skip, value);
#pragma unroll
            for (int v = 0; v < V; ++v) value[v] += bias[channel - n_skip + v];
        }
        store<T, V>(joined + pixel * width + channel, value);
    }
}

// The way back: the skip's part is added to or replaces `skip`, the rest becomes the product's gradient.
template <class T, int V>
__device__ void split(const T *joined, Grid grid, long long n_small, int n_skip, int n_up, int add, T *skip, T *product) {
    const int width = n_skip + n_up, lanes = width / V, taps = grid.taps();
    for (long long at = global_thread(); at < n_small * taps * lanes; at += global_threads()) {
        const int channel = static_cast<int>(at % lanes) * V;
        const int tap = static_cast<int>(at / lanes % taps);
        const long long small = at / lanes / taps;
        const long long pixel = grid.large(small, tap, grid.slices * grid.window_slices, grid.rows * grid.window_rows,
                                           grid.columns * grid.window_columns);
        float value[V];
        load<T, V>(joined + pixel * width + channel, value);
        if (channel >= n_skip) {
            store<T, V>(product + (small * taps + tap) * n_up + channel - n_skip, value);
            continue;
        }
        T *target = skip + pixel * n_skip + channel;
        if (add != 0) {
            float before[V];
            load<T, V>(target, before);
#pragma unroll
            for (int v = 0; v < V; ++v) value[v] += before[v];
        }
        store<T, V>(target, value);
    }
}

#define SPATIAL_KERNELS(NAME, T, V) \
    extern "C" __global__ void pool_forward_##NAME##_##V( \
        const T *input, int slices, int rows, int columns, int window_slices, int window_rows, int window_columns, \
        int large_slices, int large_rows, int large_columns, long long n_small, int n_channels, T *output) { \
        const Grid grid = {slices, rows, columns, window_slices, window_rows, window_columns}; \
        pool_forward<T, V>(input, grid, large_slices, large_rows, large_columns, n_small, n_channels, output); \
    } \
    extern "C" __global__ void pool_backward_##NAME##_##V( \
        const T *input, const T *output, const T *output_gradient, int slices, int rows, int columns, \
        int window_slices, int window_rows, int window_columns, int large_slices, int large_rows, int large_columns, \
        long long n_small, int n_channels, T *input_gradient) { \
        const Grid grid = {slices, rows, columns, window_slices, window_rows, window_columns}; \
        pool_backward<T, V>(input, output, output_gradient, grid, large_slices, large_rows, large_columns, n_small, \
                            n_channels, input_gradient); \
    } \
    extern "C" __global__ void join_##NAME##_##V(const T *skip, const T *product, const float *bias, int slices, int rows, \
                                                 int columns, int window_slices, int window_rows, int window_columns, \
                                                 long long n_small, int n_skip, int n_up, T *joined) { \
        const Grid grid = {slices, rows, columns, window_slices, window_rows, window_columns}; \
        join<T, V>(skip, product, bias, grid, n_small, n_skip, n_up, joined); \
    } \
    extern "C" __global__ void split_##NAME##_##V(const T *joined, int slices, int rows, int columns, int window_slices, \
                                                  int window_rows, int window_columns, long long n_small, int n_skip, \
                                                  int n_up, int add, T *skip, T *product) { \
        const Grid grid = {slices, rows, columns, window_slices, window_rows, window_columns}; \
        split<T, V>(joined, grid, n_small, n_skip, n_up, add, skip, product); \
    }

FOR_NUMBERS(SPATIAL_KERNELS)
