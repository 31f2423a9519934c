// Runs the kernels on the CPU for the tests: `emulate` is what a launch is on the GPU.
//
// Threads of a block run in one order or the reverse between barriers, so a missing barrier shows as a difference.
#define EMULATED
#include "kernels.cu"

#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace {

const std::size_t STACK = 128 * 1024;
const int DONE = -1;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    jmp_buf place;
    Index index;
    bool started;
    int line;
};

jmp_buf scheduler;
std::vector<Fiber> fibers;
std::size_t current;
const std::function<void()> *body;

void run_body() {
    (*body)();
    fibers[current].line = DONE;
    _longjmp(scheduler, 1);
}

// Runs a thread until its next barrier or its end. Jumps and not contexts: those ask the system each time.
__attribute__((noinline)) void resume(Fiber &fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

// Runs one block; false if threads waited at different barriers.
bool run_block(const std::function<void()> &kernel, bool reverse) {
    body = &kernel;
    const std::size_t n_threads = std::size_t(blockDim.x) * blockDim.y * blockDim.z;
    if (fibers.size() < n_threads) fibers.resize(n_threads);
    for (std::size_t at = 0; at < n_threads; ++at) {
        Fiber &fiber = fibers[at];
        fiber.stack.resize(STACK);
        const unsigned int number = static_cast<unsigned int>(at);
        fiber.index = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
        fiber.line = 0;
        fiber.started = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, run_body, 0);
    }
    for (;;) {
        bool alive = false;
        int line = 0;
        for (std::size_t step = 0; step < n_threads; ++step) {
            current = reverse ? n_threads - 1 - step : step;
            Fiber &fiber = fibers[current];
            if (fiber.line == DONE) continue;
            threadIdx = fiber.index;
            resume(fiber);
            if (fiber.line == DONE) continue;
            if (alive && fiber.line != line) return false;
            alive = true;
            line = fiber.line;
        }
        if (!alive) return true;
    }
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A> *>(arguments[I])...);
}

using Entry = std::pair<std::size_t, std::function<void(void **)>>;

template <class... A> Entry entry(void (*kernel)(A...)) {
    return {sizeof...(A), [kernel](void **arguments) { call(kernel, arguments, std::index_sequence_for<A...>()); }};
}

#define PLAIN(NAME) table[#NAME] = entry(NAME);
#define OF_NUMBER(KERNEL) PLAIN(KERNEL##_f32) PLAIN(KERNEL##_bf16)
#define OF_VECTOR(KERNEL) PLAIN(KERNEL##_f32_1) PLAIN(KERNEL##_f32_4) PLAIN(KERNEL##_bf16_1) PLAIN(KERNEL##_bf16_8)

const std::map<std::string, Entry> &kernels() {
    static const std::map<std::string, Entry> all = [] {
        std::map<std::string, Entry> table;
        OF_VECTOR(norm_moments)
        OF_VECTOR(norm_forward)
        OF_VECTOR(norm_gradient_sums)
        OF_VECTOR(norm_backward)
        OF_NUMBER(norm_finish_training)
        PLAIN(norm_finish_inference)
        PLAIN(norm_finish_gradient)
        OF_VECTOR(pool_forward)
        OF_VECTOR(pool_backward)
        OF_VECTOR(join)
        OF_VECTOR(split)
        OF_VECTOR(channel_sums)
        PLAIN(finish_sums)
        OF_VECTOR(head_forward)
        OF_VECTOR(head_backward)
        OF_VECTOR(head_weights)
        OF_NUMBER(prepare)
        PLAIN(widen_bf16)
        PLAIN(narrow_bf16)
        PLAIN(quality_sums)
        PLAIN(quality_finish)
        PLAIN(loss_sums)
        PLAIN(loss_finish)
        PLAIN(loss_gradient)
        PLAIN(sigmoid_map)
        PLAIN(gradient_squares)
        PLAIN(adam_begin)
        PLAIN(adam_update)
        return table;
    }();
    return all;
}

} // namespace

void emulated_barrier(int line) {
    fibers[current].line = line;
    if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

// 0 done, 1 no such kernel, 2 wrong number of arguments, 3 threads of a block met at different barriers.
extern "C" int emulate(const char *name, const unsigned int *grid, const unsigned int *block, void **arguments,
                       unsigned int n_arguments, int reverse) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (found->second.first != n_arguments) return 2;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const std::function<void()> kernel = [&] { found->second.second(arguments); };
    for (unsigned int z = 0; z < grid[2]; ++z)
        for (unsigned int y = 0; y < grid[1]; ++y)
            for (unsigned int x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                if (!run_block(kernel, reverse != 0)) return 3;
            }
    return 0;
}
