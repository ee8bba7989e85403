/*
 * The loops over time of a GRU whose memory can be reset before any step, forward and backward, in single precision.
 *
 * Loaded by gru_kernel.py, which checks shapes and allocates all memory; gru.py has the same loops in PyTorch and the
 * equations. A step's product with the recurrent weights, its gates and its new memory are computed tile by tile in
 * registers: ROWS sequences by the LANES hidden units of one vector.
 *
 * The file includes itself once for each instruction set ("level") with another number of lanes and rows. The compiler's
 * vector types (GCC, Clang) stand for the registers, so that one source serves all processors.
 *
 * Arrays are contiguous, time first: T steps, B sequences, H hidden units.
 */

#ifndef LANES /* ------------------------------ once: types, levels, exported functions ------------------------------ */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__)
#error "The kernel needs the vector types of GCC or Clang; without it PyTorch computes the same."
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define JOIN_(name, level) name##_##level
#define JOIN(name, level) JOIN_(name, level)
#define NAME(name) JOIN(name, LEVEL)
/* complete unrolling keeps the accumulators of a tile in registers */
#define UNROLL _Pragma("GCC unroll 16")

/* the reset gate, the update gate and the candidate of one hidden unit */
#define GATES 3

/* What a GRU did at each step; previous and projected are NULL if no gradient will be computed. */
typedef struct {
    float *activations; /* (T, B, 3H): in the projected inputs, out the reset gates, update gates and candidates */
    float *memories;    /* (T, B, H): out */
    float *previous;    /* (T, B, H): out, memories before the step, after the reset */
    float *projected;   /* (T, B, H): out, the candidate's linear function of the previous memory */
} Unrolled;

typedef struct {
    float *activations; /* (T, B, 3H): out, with respect to the arguments of the gates and of the candidates */
    float *projected;   /* (T, B, H): out, to the candidates' linear functions of the previous memory */
    float *biases;      /* (4H): out, the sums of the two */
    float *hidden;      /* (B, H): out, to the memory before the first step */
} Gradients;

#define LEVEL baseline
#define TARGET
#define LANES 4
#if defined(__aarch64__)
#define ROWS 8 /* 32 registers */
#else
#define ROWS 2
#endif
#define COLUMNS 2
#include "gru_kernel.c"

#if defined(__x86_64__)
#define LEVEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 4 /* 4 x 3 accumulators, 3 weights and a broadcast number: 16 registers */
#define COLUMNS 2
#include "gru_kernel.c"

#define LEVEL avx512
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define LANES 16
#define ROWS 8 /* 8 x 3 accumulators, 3 weights and a broadcast number of 32 registers */
#define COLUMNS 2
#include "gru_kernel.c"
#endif

enum { BASELINE, AVX2, AVX512 };

/* The best level that this processor has. */
EXPORT int gru_best_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return AVX2;
#endif
    return BASELINE;
}

#if defined(__x86_64__)
#define CALL(level, function, ...)                                                                                         \
    ((level) == AVX512 ? function##_avx512(__VA_ARGS__)                                                                    \
                       : (level) == AVX2 ? function##_avx2(__VA_ARGS__) : function##_baseline(__VA_ARGS__))
#else
#define CALL(level, function, ...) ((void)(level), function##_baseline(__VA_ARGS__))
#endif

/* The number of floats that gru_forward and gru_backward need as workspace. */
EXPORT size_t gru_workspace(int level, size_t batch, size_t size) { return CALL(level, workspace, batch, size); }

/*
 * weight (3H, H) and bias (3H) of the memory, input_bias (3H), hidden (B, H) before the first step, keep (T, B): 0 to reset,
 * else 1.
 */
EXPORT void gru_forward(int level, size_t steps, size_t batch, size_t size, const float *weight, const float *input_bias,
                        const float *bias, const float *hidden, const float *keep, float *activations, float *memories,
                        float *previous, float *projected, float *workspace) {
    const Unrolled out = {activations, memories, previous, projected};
    CALL(level, forward, steps, batch, size, weight, input_bias, bias, hidden, keep, &out, workspace);
}

/* grad_memories (T, B, H), and what gru_forward was given and has written. */
EXPORT void gru_backward(int level, size_t steps, size_t batch, size_t size, const float *weight, const float *keep,
                         const float *activations, const float *previous, const float *projected,
                         const float *grad_memories, float *grad_activations, float *grad_projected, float *grad_biases,
                         float *grad_hidden, float *workspace) {
    const Unrolled in = {(float *)activations, NULL, (float *)previous, (float *)projected};
    const Gradients out = {grad_activations, grad_projected, grad_biases, grad_hidden};
    CALL(level, backward, steps, batch, size, weight, keep, &in, grad_memories, &out, workspace);
}

/* exp, tanh and the logistic function as the kernel computes them, of n numbers; for tests. */
EXPORT void gru_functions(int level, size_t n, const float *values, float *exps, float *tanhs, float *sigmoids) {
    CALL(level, functions, n, values, exps, tanhs, sigmoids);
}

/* Multiply and add in registers; returns the number of floating point operations, for the processor's peak. */
EXPORT double gru_peak(int level, size_t repetitions, float *sink) { return CALL(level, peak, repetitions, sink); }

#else /* ------------------------------ for each level: LEVEL, TARGET, LANES, ROWS, COLUMNS ------------------------------ */

typedef float NAME(vector) __attribute__((vector_size(4 * LANES)));
typedef uint32_t NAME(bits) __attribute__((vector_size(4 * LANES)));
#define Vector NAME(vector)
#define Bits NAME(bits)

INLINE TARGET Vector NAME(load)(const float *from, size_t n) {
    Vector values = {0};
    if (n == LANES)
        memcpy(&values, from, sizeof values);
    else
        memcpy(&values, from, 4 * n);
    return values;
}

INLINE TARGET void NAME(store)(float *to, Vector values, size_t n) {
    if (n == LANES)
        memcpy(to, &values, sizeof values);
    else
        memcpy(to, &values, 4 * n);
}
#define load(from) NAME(load)(from, n)
#define store(to, values) NAME(store)(to, values, n)

/* Clamp to [-bound, bound]; not a number stays what it is. */
INLINE TARGET Vector NAME(clamp)(Vector values, float bound) {
    const Vector high = bound - (Vector){0}, low = -high;
    Bits is_above = (Bits)(values > high), is_below = (Bits)(values < low);
    Bits inside = (Bits)values & ~(is_above | is_below);
    return (Vector)(inside | ((Bits)high & is_above) | ((Bits)low & is_below));
}

/* exp(x) - 1 = scale * part + (scale - 1), with scale = 2^n and |x - n log 2| <= log(2) / 2; for |x| <= 87 */
INLINE TARGET void NAME(split_exp)(Vector x, Vector *scale, Vector *part) {
    /* adding this number leaves the nearest integer in the last bits */
    const float rounding = 12582912.0f;
    const Vector rounded = x * 1.44269504f + rounding;
    const Vector n = rounded - rounding;
    const Vector r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    Vector sum = r * (1.0f / 720) + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    *part = sum * (r * r) + r;
    *scale = (Vector)(((Bits)rounded << 23) + 0x3f800000u);
}

INLINE TARGET Vector NAME(exp)(Vector x) {
    Vector scale, part;
    NAME(split_exp)(x, &scale, &part);
    return scale * part + scale;
}

/* (exp(2x) - 1) / (exp(2x) + 1), without cancellation near 0 */
INLINE TARGET Vector NAME(tanh)(Vector x) {
    Vector scale, part;
    NAME(split_exp)(NAME(clamp)(x, 20.0f) * 2.0f, &scale, &part);
    const Vector minus_one = scale * part + (scale - 1.0f);
    return minus_one / (minus_one + 2.0f);
}

/* The logistic function of two vectors by one division, which is slow; beyond 43 the product would overflow. */
INLINE TARGET void NAME(sigmoids)(Vector *x, Vector *y) {
    const Vector a = NAME(exp)(-NAME(clamp)(*x, 43.0f)) + 1.0f, b = NAME(exp)(-NAME(clamp)(*y, 43.0f)) + 1.0f;
    const Vector inverse = 1.0f / (a * b);
    *x = b * inverse;
    *y = a * inverse;
}

static TARGET void NAME(functions)(size_t count, const float *values, float *exps, float *tanhs, float *sigmoids) {
    for (size_t i = 0; i < count; i += LANES) {
        const size_t n = count - i < LANES ? count - i : LANES;
        Vector x = load(values + i), other = -x;
        store(exps + i, NAME(exp)(NAME(clamp)(x, 87.0f)));
        store(tanhs + i, NAME(tanh)(x));
        NAME(sigmoids)(&x, &other);
        store(sigmoids + i, x);
    }
}

static TARGET double NAME(peak)(size_t repetitions, float *sink) {
    Vector sums[12], factor = 0.5f - (Vector){0}, term = 1.0f - (Vector){0};
    UNROLL for (int i = 0; i < 12; i++) sums[i] = (float)i - (Vector){0};
    for (size_t repetition = 0; repetition < repetitions; repetition++) {
        UNROLL for (int i = 0; i < 12; i++) sums[i] = sums[i] * factor + term;
        /* the compiler must not compute the result in another way */
        __asm__ volatile("" : : : "memory");
    }
    UNROLL for (int i = 0; i < 12; i++) NAME(store)(sink + i * LANES, sums[i], LANES);
    return 2.0 * 12 * LANES * (double)repetitions;
}

#define BLOCKS(size, width) (((size) + (width) - 1) / (width))

static TARGET size_t NAME(workspace)(size_t batch, size_t size) {
    const size_t forward = BLOCKS(size, LANES) * LANES * GATES * size;
    const size_t backward = BLOCKS(size, COLUMNS * LANES) * COLUMNS * LANES * GATES * size;
    return (forward > backward ? forward : backward) + batch * size;
}

/* Panels of LANES hidden units: for each number of the memory the weights of their GATES gates, then the next number. */
static TARGET void NAME(pack_forward)(size_t size, const float *weight, float *packed) {
    for (size_t first = 0; first < size; first += LANES, packed += GATES * LANES * size)
        for (size_t gate = 0; gate < GATES; gate++)
            for (size_t lane = 0; lane < LANES; lane++) {
                const float *row = weight + (gate * size + first + lane) * size;
                float *to = packed + gate * LANES + lane;
                for (size_t k = 0; k < size; k++) to[k * GATES * LANES] = first + lane < size ? row[k] : 0.0f;
            }
}

/* Panels of COLUMNS * LANES numbers of the memory: for each gate of each hidden unit their weights, then the next gate. */
static TARGET void NAME(pack_backward)(size_t size, const float *weight, float *packed) {
    for (size_t first = 0; first < size; first += COLUMNS * LANES)
        for (size_t row = 0; row < GATES * size; row++, packed += COLUMNS * LANES) {
            const size_t width = size - first < COLUMNS * LANES ? size - first : COLUMNS * LANES;
            memset(packed, 0, 4 * COLUMNS * LANES);
            memcpy(packed, weight + row * size + first, 4 * width);
        }
}

/* sums (rows, columns) += left (rows, depth) * panel (depth, columns), in registers */
INLINE TARGET void NAME(multiply)(const int rows, const int columns, size_t depth, const float *left, size_t stride,
                                  const float *panel, Vector *sums) {
    Vector totals[ROWS][GATES], weights[GATES];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) totals[r][c] = sums[r * columns + c];
    for (size_t k = 0; k < depth; k++, panel += columns * LANES) {
        UNROLL for (int c = 0; c < columns; c++) weights[c] = NAME(load)(panel + c * LANES, LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            const Vector value = left[r * stride + k] - (Vector){0};
            UNROLL for (int c = 0; c < columns; c++) totals[r][c] += weights[c] * value;
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) sums[r * columns + c] = totals[r][c];
}

/* Functions of their own, so that the numbers of other code take no registers from the accumulators. */
#define MULTIPLY(name, columns)                                                                                            \
    static __attribute__((noinline)) TARGET void NAME(name)(size_t rows, size_t depth, const float *left, size_t stride,    \
                                                            const float *panel, Vector *sums) {                            \
        if (rows == ROWS)                                                                                                  \
            NAME(multiply)(ROWS, columns, depth, left, stride, panel, sums);                                               \
        else if (rows == ROWS / 2)                                                                                         \
            NAME(multiply)(ROWS / 2, columns, depth, left, stride, panel, sums);                                           \
        else                                                                                                               \
            NAME(multiply)(1, columns, depth, left, stride, panel, sums);                                                  \
    }
MULTIPLY(multiply_forward, GATES)
MULTIPLY(multiply_backward, COLUMNS)

/* The number of the left rows that one call of a product takes. */
static size_t NAME(tile_rows)(size_t left) { return left >= ROWS ? ROWS : left >= ROWS / 2 ? ROWS / 2 : 1; }

/* The biases of the reset gates, update gates, candidates, and of the candidates' linear functions of the memory. */
#define LOAD_BIASES(first)                                                                                                 \
    {load(input_bias + (first)) + load(bias + (first)), load(input_bias + size + (first)) + load(bias + size + (first)),    \
     load(input_bias + 2 * size + (first)), load(bias + 2 * size + (first))}

/* One step of one sequence and n <= LANES hidden units, from the products of the memory with the weights of the gates. */
INLINE TARGET void NAME(forward_cell)(const size_t n, size_t size, size_t row, size_t first, const float *before,
                                      const Vector *biases, const Vector *products, const Unrolled *out) {
    const size_t at = row * size + first;
    float *activations = out->activations + GATES * row * size + first;
    const Vector projected = products[2] + biases[3];
    Vector reset = load(activations) + biases[0] + products[0];
    Vector update = load(activations + size) + biases[1] + products[1];
    NAME(sigmoids)(&reset, &update);
    const Vector candidate = NAME(tanh)(load(activations + 2 * size) + biases[2] + reset * projected);
    store(out->memories + at, candidate + update * (load(before + at) - candidate));
    if (out->projected) {
        store(activations, reset);
        store(activations + size, update);
        store(activations + 2 * size, candidate);
        store(out->projected + at, projected);
    }
}

/* One step of all sequences and n <= LANES hidden units from the first. */
static TARGET void NAME(forward_panel)(size_t batch, size_t n, size_t size, const float *before, size_t first,
                                       const float *panel, const float *input_bias, const float *bias,
                                       const Unrolled *out) {
    const Vector biases[GATES + 1] = LOAD_BIASES(first);
    for (size_t row = 0, rows; row < batch; row += rows) {
        Vector sums[ROWS * GATES] = {{0}};
        rows = NAME(tile_rows)(batch - row);
        NAME(multiply_forward)(rows, size, before + row * size, size, panel, sums);
        for (size_t r = 0; r < rows; r++)
            if (n == LANES)
                NAME(forward_cell)(LANES, size, row + r, first, before, biases, sums + r * GATES, out);
            else
                NAME(forward_cell)(n, size, row + r, first, before, biases, sums + r * GATES, out);
    }
}

static TARGET void NAME(forward)(size_t steps, size_t batch, size_t size, const float *weight, const float *input_bias,
                                 const float *bias, const float *hidden, const float *keep, const Unrolled *all,
                                 float *workspace) {
    const size_t area = batch * size;
    float *packed = workspace + area;
    NAME(pack_forward)(size, weight, packed);
    for (size_t step = 0; step < steps; step++, keep += batch) {
        const size_t at = step * area;
        const Unrolled out = {all->activations + GATES * at, all->memories + at, NULL,
                              all->projected ? all->projected + at : NULL};
        float *before = all->previous ? all->previous + at : workspace;
        for (size_t row = 0; row < batch; row++)
            for (size_t i = row * size; i < (row + 1) * size; i++) before[i] = hidden[i] * keep[row];
        const float *panel = packed;
        for (size_t first = 0; first < size; first += LANES, panel += GATES * LANES * size) {
            const size_t n = size - first < LANES ? size - first : LANES;
            NAME(forward_panel)(batch, n, size, before, first, panel, input_bias, bias, &out);
        }
        hidden = out.memories;
    }
}

/* Add to n sums. */
INLINE TARGET void NAME(add)(float *sums, Vector values, const size_t n) { store(sums, load(sums) + values); }

/* The gradients with respect to what a step adds up, and the direct part of that to the memory before it. */
INLINE TARGET void NAME(backward_cell)(const size_t n, size_t size, size_t row, size_t first, const Unrolled *in,
                                       const float *grad_memories, const Gradients *out) {
    const size_t at = row * size + first, at_gates = GATES * row * size + first;
    const Vector reset = load(in->activations + at_gates), update = load(in->activations + at_gates + size);
    const Vector candidate = load(in->activations + at_gates + 2 * size);
    const Vector grad_memory = load(grad_memories + at) + load(out->hidden + at);
    const Vector grad_direct = grad_memory * update;
    const Vector grad_candidate = (grad_memory - grad_direct) * (1.0f - candidate * candidate);
    const Vector grad_update = (load(in->previous + at) - candidate) * grad_memory * (update - update * update);
    const Vector grad_reset = grad_candidate * load(in->projected + at) * (reset - reset * reset);
    const Vector grad_projected = grad_candidate * reset;
    store(out->activations + at_gates, grad_reset);
    store(out->activations + at_gates + size, grad_update);
    store(out->activations + at_gates + 2 * size, grad_candidate);
    store(out->projected + at, grad_projected);
    store(out->hidden + at, grad_direct);
    NAME(add)(out->biases + first, grad_reset, n);
    NAME(add)(out->biases + size + first, grad_update, n);
    NAME(add)(out->biases + 2 * size + first, grad_candidate, n);
    NAME(add)(out->biases + 3 * size + first, grad_projected, n);
}

/* hidden = (hidden + grad of the gates * their weights + projected * weights of the candidates) * keep, of width numbers */
static TARGET void NAME(backward_panel)(size_t batch, size_t width, size_t size, size_t first, const float *panel,
                                        const float *keep, const Gradients *out) {
    for (size_t row = 0, rows; row < batch; row += rows) {
        Vector sums[ROWS * COLUMNS] = {{0}};
        rows = NAME(tile_rows)(batch - row);
        NAME(multiply_backward)(rows, 2 * size, out->activations + GATES * row * size, GATES * size, panel, sums);
        panel += 2 * size * COLUMNS * LANES;
        NAME(multiply_backward)(rows, size, out->projected + row * size, size, panel, sums);
        panel -= 2 * size * COLUMNS * LANES;
        for (size_t r = 0; r < rows; r++)
            for (size_t done = 0; done < width; done += LANES) {
                const size_t n = width - done < LANES ? width - done : LANES;
                float *hidden = out->hidden + (row + r) * size + first + done;
                store(hidden, (load(hidden) + sums[r * COLUMNS + done / LANES]) * keep[row + r]);
            }
    }
}

static TARGET void NAME(backward)(size_t steps, size_t batch, size_t size, const float *weight, const float *keep,
                                  const Unrolled *all, const float *grad_memories, const Gradients *gradients,
                                  float *packed) {
    const size_t area = batch * size;
    NAME(pack_backward)(size, weight, packed);
    memset(gradients->hidden, 0, 4 * area);
    memset(gradients->biases, 0, 4 * (GATES + 1) * size);
    for (size_t step = steps; step-- > 0;) {
        const size_t at = step * area;
        const Unrolled in = {all->activations + GATES * at, NULL, all->previous + at, all->projected + at};
        const Gradients out = {gradients->activations + GATES * at, gradients->projected + at, gradients->biases,
                               gradients->hidden};
        for (size_t row = 0; row < batch; row++) {
            size_t first = 0;
            for (; first + LANES <= size; first += LANES)
                NAME(backward_cell)(LANES, size, row, first, &in, grad_memories + at, &out);
            if (first < size) NAME(backward_cell)(size - first, size, row, first, &in, grad_memories + at, &out);
        }
        const float *panel = packed;
        for (size_t first = 0; first < size; first += COLUMNS * LANES, panel += COLUMNS * LANES * GATES * size) {
            const size_t width = size - first < COLUMNS * LANES ? size - first : COLUMNS * LANES;
            NAME(backward_panel)(batch, width, size, first, panel, keep + step * batch, &out);
        }
    }
}

#undef BLOCKS
#undef MULTIPLY
#undef LOAD_BIASES
#undef load
#undef store
#undef Vector
#undef Bits
#undef LEVEL
#undef TARGET
#undef LANES
#undef ROWS
#undef COLUMNS
#endif
