// Quality assessment and loss of UMA-Net (arXiv 2304.00466v2, Eqs. 1 and 3 to 8), in f64 from f32 logits.
//
// Maps are `[case, pixel, structure]`, those of sources `[source, case, pixel, structure]`; `uncertainty` is null
// without AUEM. Grids of sums and gradients are (pixel groups, structures, cases), blocks have THREADS threads.
// `moment` is what the host sets before each step: learning rate, alpha, whether the gate acts.
#pragma once
#include "common.cuh"

#define MOMENT_LEARNING_RATE 0
#define MOMENT_ALPHA 1
#define MOMENT_GATE 2

#define ROUTE_PRIMARY 0
#define ROUTE_AUXILIARY 1
#define ROUTE_NOWHERE 2

// Sums of a structure of a case: six and the uncertainty of each source.
#define QUALITY_SUMS(n_sources) (6 + (n_sources))
// Report of the gate: six numbers and the mean uncertainty of each source.
#define GATE_PASSING 0
#define GATE_U_A 1
#define GATE_U_A_ALL 2
#define GATE_U_B 3
#define GATE_PRIMARY 4
#define GATE_AUXILIARY 5
#define GATE_SOURCES 6

// Sums of a structure of a case: four, and numerator and denominator of each source.
#define LOSS_SUMS(n_sources) (4 + 2 * (n_sources))
// Report of the loss: the terms of Eq. 8, and whether there is a finite gradient to step along.
#define TERM_CROSS_ENTROPY 0
#define TERM_DICE 1
#define TERM_CONSISTENCY 2
#define TERM_TOTAL 3
#define TERM_ACTIVE 4

// The smallest number under a logarithm, and the mean consensus under which a case counts as empty.
#define QUALITY_FLOOR 1e-7

#define DOMAIN_ALL 0
#define DOMAIN_MASK 1
#define DOMAIN_CONSENSUS 2

__device__ inline double sigmoid(double x) {
    const double small = exp(-fabs(x));
    return x >= 0.0 ? 1.0 / (1.0 + small) : small / (1.0 + small);
}

// Entropy of one consensus value in the form 0 foreground, 1 foreground in bits, 2 binary, 3 binary in bits.
__device__ inline double entropy_of(double s, int form) {
    const double log2_e = 1.4426950408889634;
    const double clamped = fmin(fmax(s, QUALITY_FLOOR), 1.0 - QUALITY_FLOOR);
    const double foreground = -s * log(fmax(clamped, s));
    const double binary = foreground - (1.0 - s) * log(1.0 - clamped);
    switch (form) {
    case 0: return foreground;
    case 1: return foreground * log2_e;
    case 2: return binary;
    default: return binary * log2_e;
    }
}

extern "C" __global__ void quality_sums(const float *uncertainty, const float *labels, const unsigned char *mask,
                                        long long n_pixels, int n_sources, int form, int domain, double threshold,
                                        double *partial) {
    const int structure = blockIdx.y, n_structures = gridDim.y, the_case = blockIdx.z;
    const long long n_values = n_pixels * n_structures * gridDim.z;
    double sums[6 + MAX_SOURCES] = {};
    for (long long pixel = global_thread(); pixel < n_pixels; pixel += global_threads()) {
        const long long place = (the_case * n_pixels + pixel) * n_structures + structure;
        double calibration[MAX_SOURCES];
        double sum = 0.0, squares = 0.0;
        for (int source = 0; source < n_sources; ++source) {
            double sigma = 0.0;
            if (uncertainty) {
                // Maps of probabilities are f32.
                sigma = static_cast<float>(sigmoid(uncertainty[source * n_values + place]));
                sums[6 + source] += sigma;
            }
            calibration[source] = fabs(labels[source * n_values + place] - sigma);
            sum += calibration[source];
        }
        const double consensus = sum / n_sources;
        for (int source = 0; source < n_sources; ++source) {
            squares += (calibration[source] - consensus) * (calibration[source] - consensus);
        }
        const double entropy = entropy_of(consensus, form);
        sums[0] += entropy;
        sums[1] += consensus;
        sums[5] += squares / n_sources;
        const bool inside = domain == DOMAIN_MASK ? mask[place] != 0 : domain == DOMAIN_CONSENSUS && consensus > threshold;
        if (inside) {
            sums[2] += entropy;
            sums[3] += consensus;
            sums[4] += 1.0;
        }
    }
    const int n_sums = QUALITY_SUMS(n_sources);
    double *own = partial + ((static_cast<long long>(the_case) * n_structures + structure) * gridDim.x + blockIdx.x) * n_sums;
    for (int at = 0; at < n_sums; ++at) {
        const double sum = block_sum(sums[at]);
        if (threadIdx.x == 0) own[at] = sum;
    }
}

__device__ inline double entropy_ratio(double entropy, double consensus, double count, int form) {
    if (consensus <= QUALITY_FLOOR * count) return 0.0;
    return form == 3 ? entropy / count : entropy / consensus;
}

// Scores `[case, 3]` (u_a, u_a over the whole image, u_b), routes and the gate's report; one block.
extern "C" __global__ void quality_finish(const double *partial, int n_blocks, int n_cases, int n_structures, int n_sources,
                                          long long n_pixels, int form, int domain, int sample_variance, double tau_a,
                                          double tau_b, int has_auxiliary, int has_uncertainty, const double *moment,
                                          double *scores, int *routes, double *gate) {
    const int n_sums = QUALITY_SUMS(n_sources);
    for (int the_case = threadIdx.x; the_case < n_cases; the_case += blockDim.x) {
        double u_a = 0.0, u_a_all = 0.0, u_b = 0.0;
        for (int structure = 0; structure < n_structures; ++structure) {
            double sums[6] = {};
            for (int block = 0; block < n_blocks; ++block) {
                const double *own = partial + ((static_cast<long long>(the_case) * n_structures + structure) * n_blocks + block) * n_sums;
                for (int at = 0; at < 6; ++at) sums[at] += own[at];
            }
            if (sample_variance != 0 && n_sources > 1) sums[5] *= static_cast<double>(n_sources) / (n_sources - 1);
            const double all = entropy_ratio(sums[0], sums[1], static_cast<double>(n_pixels), form);
            const bool empty = sums[1] <= QUALITY_FLOOR * static_cast<double>(n_pixels);
            // A NaN is not the greater of two, as on the CPU.
            u_a_all = fmax(u_a_all, all);
            u_a = fmax(u_a, domain == DOMAIN_ALL ? all : entropy_ratio(sums[2], sums[3], sums[4], form));
            u_b = fmax(u_b, empty ? 0.0 : 4.0 * sums[5] / sums[1]);
        }
        scores[3 * the_case] = u_a;
        scores[3 * the_case + 1] = u_a_all;
        scores[3 * the_case + 2] = u_b;
        const bool high = u_a < tau_a && u_b < tau_b;
        const bool acts = moment[MOMENT_GATE] != 0.0;
        routes[the_case] = !acts || high ? ROUTE_PRIMARY : has_auxiliary != 0 ? ROUTE_AUXILIARY : ROUTE_NOWHERE;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int at = 0; at < GATE_SOURCES + n_sources; ++at) gate[at] = 0.0;
    for (int the_case = 0; the_case < n_cases; ++the_case) {
        const double *score = scores + 3 * the_case;
        gate[GATE_PASSING] += score[0] < tau_a && score[2] < tau_b ? 1.0 : 0.0;
        gate[GATE_U_A] += score[0] / n_cases;
        gate[GATE_U_A_ALL] += score[1] / n_cases;
        gate[GATE_U_B] += score[2] / n_cases;
        gate[GATE_PRIMARY] += routes[the_case] == ROUTE_PRIMARY ? 1.0 : 0.0;
        gate[GATE_AUXILIARY] += routes[the_case] == ROUTE_AUXILIARY ? 1.0 : 0.0;
    }
    if (has_uncertainty == 0) return;
    const double n_values = static_cast<double>(n_cases) * n_structures * static_cast<double>(n_pixels);
    for (long long block = 0; block < static_cast<long long>(n_cases) * n_structures * n_blocks; ++block) {
        for (int source = 0; source < n_sources; ++source) {
            gate[GATE_SOURCES + source] += partial[block * n_sums + 6 + source] / n_values;
        }
    }
}

// Settings of Eqs. 1, 3 and 8. `tau` > 0: the uncertainty is `tau (2 sigmoid - 1)`, else the sigmoid.
struct LossSettings {
    double lambda, temperature, tau, dice_epsilon;

    __device__ double sigma(double q) const { return tau > 0.0 ? tau * (2.0 * q - 1.0) : q; }
    __device__ double slope() const { return tau > 0.0 ? 2.0 * tau : 1.0; }
};

// `max(x, 0) - x y + ln(1 + e^-|x|)`.
__device__ inline double cross_entropy(double x, double y) { return fmax(x, 0.0) - x * y + log1p(exp(-fabs(x))); }

__device__ inline const float *routed(int route, const float *primary, const float *auxiliary) {
    return route == ROUTE_AUXILIARY ? auxiliary : primary;
}

extern "C" __global__ void loss_sums(const float *primary, const float *auxiliary, const float *uncertainty,
                                     const float *labels, const int *routes, long long n_pixels, int n_sources,
                                     double temperature, double tau, double *partial) {
    const LossSettings settings = {0.0, temperature, tau, 0.0};
    const int structure = blockIdx.y, n_structures = gridDim.y, the_case = blockIdx.z;
    const long long n_values = n_pixels * n_structures * gridDim.z;
    const float *logits = routed(routes[the_case], primary, auxiliary);
    double sums[4 + 2 * MAX_SOURCES] = {};
    for (long long pixel = global_thread(); pixel < n_pixels; pixel += global_threads()) {
        const long long place = (the_case * n_pixels + pixel) * n_structures + structure;
        const double x = logits[place], p = sigmoid(x);
        double calibration[MAX_SOURCES];
        double mean = 0.0;
        sums[0] += p * p;
        for (int source = 0; source < n_sources; ++source) {
            const double y = labels[source * n_values + place];
            double q = 0.0, weight = 1.0;
            if (uncertainty) {
                q = sigmoid(uncertainty[source * n_values + place]);
                const double sigma = settings.sigma(q);
                weight = exp(-settings.temperature * sigma);
                sums[2] += 0.5 * sigma;
            }
            sums[1] += weight * cross_entropy(x, y);
            sums[4 + source] += weight * (p - y) * (p - y);
            sums[4 + n_sources + source] += y * y;
            calibration[source] = fabs(y - q);
            mean += calibration[source];
        }
        mean /= n_sources;
        for (int source = 0; source < n_sources; ++source) {
            sums[3] += (calibration[source] - mean) * (calibration[source] - mean);
        }
    }
    const int n_sums = LOSS_SUMS(n_sources);
    double *own = partial + ((static_cast<long long>(the_case) * n_structures + structure) * gridDim.x + blockIdx.x) * n_sums;
    for (int at = 0; at < n_sums; ++at) {
        const double sum = block_sum(sums[at]);
        if (threadIdx.x == 0) own[at] = sum;
    }
}

__device__ inline double quotient(double top, double bottom) { return bottom == 0.0 ? 0.0 : top / bottom; }

// Terms `[case, structure, 4]`, `dice` `[case, structure, 1 + source]` for the gradients (sum of numerator over
// squared denominator, one over each denominator), and the report; one block.
extern "C" __global__ void loss_finish(const double *partial, int n_blocks, int n_cases, int n_structures, int n_sources,
                                       long long n_pixels, double lambda, double dice_epsilon, int has_uncertainty,
                                       const int *routes, const double *moment, double *terms, double *dice,
                                       double *report) {
    const int n_sums = LOSS_SUMS(n_sources);
    const double alpha = moment[MOMENT_ALPHA];
    for (int at = threadIdx.x; at < n_cases * n_structures; at += blockDim.x) {
        double sums[4 + 2 * MAX_SOURCES] = {};
        for (int block = 0; block < n_blocks; ++block) {
            const double *own = partial + (static_cast<long long>(at) * n_blocks + block) * n_sums;
            for (int n = 0; n < n_sums; ++n) sums[n] += own[n];
        }
        const double per_map = 1.0 / (static_cast<double>(n_sources) * static_cast<double>(n_pixels));
        double ratio = 0.0, shrink = 0.0;
        double *own = dice + static_cast<long long>(at) * (1 + n_sources);
        for (int source = 0; source < n_sources; ++source) {
            const double top = sums[4 + source], bottom = dice_epsilon + sums[4 + n_sources + source] + sums[0];
            const double inverse = quotient(1.0, bottom);
            ratio += quotient(top, bottom);
            shrink += top * inverse * inverse;
            own[1 + source] = inverse;
        }
        own[0] = shrink;
        double *term = terms + 4 * at;
        term[TERM_CROSS_ENTROPY] = (sums[1] + sums[2]) * per_map;
        term[TERM_DICE] = ratio / n_sources + sums[2] * per_map;
        term[TERM_CONSISTENCY] = sums[3] * per_map;
        // Terms that are switched off are left out and not multiplied by 0, which would keep a NaN.
        term[TERM_TOTAL] = term[TERM_CROSS_ENTROPY];
        if (lambda > 0.0) term[TERM_TOTAL] += lambda * term[TERM_DICE];
        if (alpha > 0.0 && has_uncertainty != 0) term[TERM_TOTAL] += alpha * term[TERM_CONSISTENCY];
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int n = 0; n < 4; ++n) report[n] = 0.0;
    int n_trained = 0;
    for (int the_case = 0; the_case < n_cases; ++the_case) n_trained += routes[the_case] != ROUTE_NOWHERE ? 1 : 0;
    for (int at = 0; at < n_cases * n_structures; ++at) {
        if (routes[at / n_structures] == ROUTE_NOWHERE) continue;
        for (int n = 0; n < 4; ++n) report[n] += terms[4 * at + n] / (static_cast<double>(n_structures) * n_trained);
    }
    bool finite = true;
    for (int n = 0; n < 4; ++n) finite = finite && fabs(report[n]) < 1e300;
    report[TERM_ACTIVE] = n_trained > 0 && finite ? 1.0 : 0.0;
}

// Derivatives of Eq. 8, divided by the number of cases, by all logits; `to_auxiliary` and `to_uncertainty` may be null.
extern "C" __global__ void loss_gradient(const float *primary, const float *auxiliary, const float *uncertainty,
                                         const float *labels, const int *routes, const double *dice, const double *moment,
                                         long long n_pixels, int n_sources, double lambda, double temperature, double tau,
                                         float *to_primary, float *to_auxiliary, float *to_uncertainty) {
    const LossSettings settings = {lambda, temperature, tau, 0.0};
    const int structure = blockIdx.y, n_structures = gridDim.y, the_case = blockIdx.z;
    const long long n_values = n_pixels * n_structures * gridDim.z;
    const int route = routes[the_case];
    const bool trains = route != ROUTE_NOWHERE;
    const float *logits = routed(route, primary, auxiliary);
    const double *own = dice + (static_cast<long long>(the_case) * n_structures + structure) * (1 + n_sources);
    const double alpha = moment[MOMENT_ALPHA];
    const double scale = 1.0 / gridDim.z / n_structures;
    const double per_map = scale / (static_cast<double>(n_sources) * static_cast<double>(n_pixels));
    const double per_source = scale * settings.lambda / n_sources;
    for (long long pixel = global_thread(); pixel < n_pixels; pixel += global_threads()) {
        const long long place = (the_case * n_pixels + pixel) * n_structures + structure;
        const double x = logits[place], p = sigmoid(x);
        double consensus = 0.0;
        for (int source = 0; source < n_sources; ++source) {
            const double q = uncertainty ? sigmoid(uncertainty[source * n_values + place]) : 0.0;
            consensus += fabs(labels[source * n_values + place] - q) / n_sources;
        }
        double by_entropy = 0.0, by_dice = -p * own[0];
        for (int source = 0; source < n_sources; ++source) {
            const double y = labels[source * n_values + place], inverse = own[1 + source];
            const double q = uncertainty ? sigmoid(uncertainty[source * n_values + place]) : 0.0;
            const double weight = uncertainty ? exp(-settings.temperature * settings.sigma(q)) : 1.0;
            by_entropy += weight * (p - y);
            by_dice += weight * (p - y) * inverse;
            if (!to_uncertainty) continue;
            const double falling = settings.temperature * weight;
            const double by_sigma = per_map * (0.5 - falling * cross_entropy(x, y)) +
                                    per_source * (0.5 / static_cast<double>(n_pixels) - falling * (p - y) * (p - y) * inverse);
            const double side = q > y ? 1.0 : -1.0;
            const double by_calibration = 2.0 * alpha * per_map * (fabs(y - q) - consensus) * side;
            const double by_q = by_sigma * settings.slope() + by_calibration;
            to_uncertainty[source * n_values + place] = trains ? static_cast<float>(by_q * q * (1.0 - q)) : 0.0f;
        }
        const double by_x = per_map * by_entropy + 2.0 * per_source * by_dice * p * (1.0 - p);
        to_primary[place] = route == ROUTE_PRIMARY ? static_cast<float>(by_x) : 0.0f;
        if (to_auxiliary) to_auxiliary[place] = route == ROUTE_AUXILIARY ? static_cast<float>(by_x) : 0.0f;
    }
}

// Probabilities of logits.
extern "C" __global__ void sigmoid_map(const float *logits, long long count, float *output) {
    for (long long at = global_thread(); at < count; at += global_threads()) {
        output[at] = static_cast<float>(sigmoid(logits[at]));
    }
}
