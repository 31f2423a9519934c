// Adam over one flat buffer (Kingma and Ba, arXiv 1412.6980, in PyTorch's form), with the decoupled decay of AdamW.
#pragma once
#include "common.cuh"
#include "loss.cuh"

// Numbers of one step, `float[10]`.
#define ADAM_ACTIVE 0
#define ADAM_FACTOR 1
#define ADAM_DECAY 2
#define ADAM_GAIN 4
#define ADAM_SIZE 6
#define ADAM_INV_ROOT 7
#define ADAM_EPSILON 8
#define ADAM_KEPT 9

extern "C" __global__ void gradient_squares(const float *gradients, long long count, double *partial) {
    double sum = 0.0;
    for (long long at = global_thread(); at < count; at += global_threads()) {
        const double gradient = gradients[at];
        sum += gradient * gradient;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Counts a step in `state` (steps taken, norm of the gradient before any limit) and sets its numbers; one block.
// Without an active report nothing changes but the norm. `max_norm` 0 is no limit.
extern "C" __global__ void adam_begin(const double *partial, int n_blocks, const double *report, const double *moment,
                                      double beta1, double beta2, double epsilon, double weight_decay, double max_norm,
                                      double *state, float *numbers) {
    double sum = 0.0;
    for (int block = threadIdx.x; block < n_blocks; block += blockDim.x) sum += partial[block];
    const double norm = sqrt(block_sum(sum));
    if (threadIdx.x != 0) return;
    const bool active = report[TERM_ACTIVE] != 0.0;
    state[1] = norm;
    if (active) state[0] += 1.0;
    numbers[ADAM_ACTIVE] = active ? 1.0f : 0.0f;
    numbers[ADAM_FACTOR] = static_cast<float>(max_norm > 0.0 ? fmin(max_norm / (norm + 1e-6), 1.0) : 1.0);
    numbers[ADAM_DECAY] = static_cast<float>(beta1);
    numbers[ADAM_DECAY + 1] = static_cast<float>(beta2);
    numbers[ADAM_GAIN] = static_cast<float>(1.0 - beta1);
    numbers[ADAM_GAIN + 1] = static_cast<float>(1.0 - beta2);
    numbers[ADAM_SIZE] = static_cast<float>(-moment[MOMENT_LEARNING_RATE] / (1.0 - pow(beta1, state[0])));
    numbers[ADAM_INV_ROOT] = static_cast<float>(1.0 / sqrt(1.0 - pow(beta2, state[0])));
    numbers[ADAM_EPSILON] = static_cast<float>(epsilon);
    numbers[ADAM_KEPT] = static_cast<float>(1.0 - moment[MOMENT_LEARNING_RATE] * weight_decay);
}

// One step; `copy` takes the new values as bf16 and may be null.
extern "C" __global__ void adam_update(const float *gradients, const float *numbers, long long count, float *values,
                                       float *first, float *second, bf16 *copy) {
    if (numbers[ADAM_ACTIVE] == 0.0f) return;
    for (long long at = global_thread(); at < count; at += global_threads()) {
        const float gradient = gradients[at] * numbers[ADAM_FACTOR];
        const float m = first[at] * numbers[ADAM_DECAY] + gradient * numbers[ADAM_GAIN];
        const float v = second[at] * numbers[ADAM_DECAY + 1] + gradient * gradient * numbers[ADAM_GAIN + 1];
        const float root = fmaf(sqrtf(v), numbers[ADAM_INV_ROOT], numbers[ADAM_EPSILON]);
        const float value = values[at] * numbers[ADAM_KEPT] + m / root * numbers[ADAM_SIZE];
        values[at] = value;
        first[at] = m;
        second[at] = v;
        if (copy) copy[at] = narrow<bf16>(value);
    }
}
