/* Stacks of multilayer perceptrons on a CPU: forward, backward, and the gradients of an ensemble's Gaussian likelihood.

   Network after network, so that what one of them writes is still near when it is read. */

#pragma once

#include "column.h"

enum { MOST_LAYERS = 16 };

typedef struct {
    long stack, rows, layers, act, threads, pairs; /* pairs: factors of products are rounded to bf16 */
    const long *sizes;         /* layers + 1 */
    const float *x;            /* network s reads x + start[s], (rows, sizes[0]), rows ldx apart */
    const long *start;
    long ldx;
    const float *const *w;     /* of each layer (stack, in, out) */
    const float *const *b;     /* of each layer (stack, out) */
    float *const *h;           /* what each layer gives, (stack, rows, out) */
    float *const *slope;       /* derivatives of silu, of each layer but the last, likewise; or NULL */
} Stack;

typedef struct {
    const float *grad;         /* of what the last layer gives, (stack, rows, out) */
    float *dx;                 /* of the input, (stack, rows, in), or NULL */
    float *const *dw;          /* as w, or NULL */
    float *const *db;
} Gradients;

/* One network of a stack: where its matrices begin. grad[l] is of what layer l gives before its activation. */
typedef struct {
    const Stack *of;
    long s;
    const float *x;
    float *h[MOST_LAYERS], *slope[MOST_LAYERS], *grad[MOST_LAYERS];
} Network;

/* A thread's own memory, kept from call to call. */
static float *scratch(int which, long floats)
{
    static __thread float *kept[6];
    static __thread long sizes[6];
    if (sizes[which] < floats) {
        free(kept[which]);
        sizes[which] = (floats + 1023) / 1024 * 1024;
        kept[which] = aligned_alloc(4096, 4 * sizes[which]);
        if (!kept[which]) abort();
    }
    return kept[which];
}

/* Rows i0 .. i1 of `at` (rows, depth) as a left factor. */
static Left rows_of(const float *at, long ld, long depth, long i0, long i1, long pairs)
{
    if (!pairs) return (Left){at, ld, depth, 0, 0};
    const long all = steps(depth, 1);
    float *to = scratch(4, (i1 - i0) * all);
    pair_rows(at + i0 * ld, ld, i1 - i0, depth, to);
    return (Left){to - i0 * all, all, all, 0, 1};
}

/* Columns i0 .. i1 of `at` (depth, columns) as a left factor. */
static Left columns_of(const float *at, long ld, long depth, long i0, long i1, long pairs)
{
    const long all = steps(depth, pairs), rows = i1 - i0;
    float *blocks = scratch(2, (rows + MR) * all);
    if (pairs) {
        float *to = scratch(4, rows * all);
        pair_columns(at + i0, ld, depth, rows, to);
        pack_left(to, rows, all, 0, rows, blocks);
    } else {
        pack_left(at, ld, depth, i0, i1, blocks);
    }
    return (Left){blocks - i0 * all, 0, all, 1, (int)pairs};
}

/* The transpose of w (columns, depth) as a right factor. */
static float *transposed_panels(const float *w, long ld, long depth, long columns, long pairs)
{
    const long all = steps(depth, pairs);
    float *panels = scratch(0, panels_size(all, columns));
    if (pairs) {
        float *to = scratch(5, columns * all);
        pair_rows(w, ld, columns, depth, to);
        w = to, ld = all;
    }
    pack_transposed(w, ld, all, columns, panels);
    return panels;
}

static Network network(const Stack *of, long s)
{
    Network n = {.of = of, .s = s, .x = of->x + of->start[s]};
    for (long l = 0; l < of->layers && of->h; l++) {
        const long at = s * of->rows * of->sizes[l + 1];
        n.h[l] = of->h[l] + at;
        n.slope[l] = of->slope && l + 1 < of->layers ? of->slope[l] + at : NULL;
    }
    return n;
}

static void forward(const Network *n, long i0, long i1)
{
    const Stack *k = n->of;
    for (long l = 0; l < k->layers; l++) {
        const long depth = k->sizes[l], columns = k->sizes[l + 1];
        const float *w = k->w[l] + n->s * depth * columns, *b = k->b[l] + n->s * columns;
        const float *from = l ? n->h[l - 1] : n->x;
        const long ld = l ? depth : k->ldx;
        if (columns == 1 && l + 1 == k->layers) {
            const Left single = {from, ld, depth, 0, 0};
            column_forward(&single, w, *b, n->h[l], i0, i1);
            continue;
        }
        float *panels = scratch(0, panels_size(steps(depth, k->pairs), columns));
        pack(w, columns, depth, columns, k->pairs, panels, NULL);
        const Left left = rows_of(from, ld, depth, i0, i1, k->pairs);
        const Finish f = {l + 1 < k->layers ? k->act : NONE, b, NULL, n->slope[l], n->h[l], columns};
        product(&left, panels, &f, i0, i1, columns);
    }
}

/* From the gradient of what layer l gives to that of what it reads: `to`, or before the activation of layer l - 1. */
static void backward_input(const Network *n, long l, float *to, long i0, long i1)
{
    const Stack *k = n->of;
    const long depth = k->sizes[l + 1], columns = k->sizes[l];
    const float *w = k->w[l] + n->s * depth * columns;
    Finish f = {NONE, NULL, NULL, NULL, to, columns};
    if (l) {
        f.act = k->act == SILU ? SILU_BACK : RELU_BACK;
        f.factor = k->act == SILU ? n->slope[l - 1] : n->h[l - 1];
        f.out = n->grad[l - 1];
    }
    if (depth == 1) {
        column_backward(n->grad[l], w, &f, i0, i1, columns);
        return;
    }
    const float *panels = transposed_panels(w, depth, depth, columns, k->pairs);
    const Left left = rows_of(n->grad[l], depth, depth, i0, i1, k->pairs);
    product(&left, panels, &f, i0, i1, columns);
}

/* Rows i0 .. i1 of the gradient of layer l's weight; of its bias too with i0 = 0. */
static void backward_weight(const Network *n, const Gradients *g, long l, long i0, long i1)
{
    const Stack *k = n->of;
    const long depth = k->rows, rows = k->sizes[l], columns = k->sizes[l + 1];
    const Left from = {l ? n->h[l - 1] : n->x, l ? rows : k->ldx, depth, 0, 0};
    if (columns == 1) {
        column_weight(&from, n->grad[l], g->dw[l] + n->s * rows, i0 ? NULL : g->db[l] + n->s, i0, i1);
        return;
    }
    float *panels = scratch(0, panels_size(steps(depth, k->pairs), columns));
    pack(n->grad[l], columns, depth, columns, k->pairs, panels, i0 ? NULL : g->db[l] + n->s * columns);
    const Left left = columns_of(from.at, from.ld, depth, i0, i1, k->pairs);
    const Finish f = {NONE, NULL, NULL, NULL, g->dw[l] + n->s * rows * columns, columns};
    product(&left, panels, &f, i0, i1, columns);
}

static void backward(const Network *n, const Gradients *g)
{
    for (long l = n->of->layers - 1; l >= 0; l--) {
        if (g->dw) backward_weight(n, g, l, 0, n->of->sizes[l]);
        if (l || g->dx) backward_input(n, l, g->dx + n->s * n->of->rows * n->of->sizes[0], 0, n->of->rows);
    }
}

/* Parts into which each network is cut where networks alone do not occupy the threads alike. */
static long parts(const Stack *k) { return k->stack % k->threads ? k->threads : 1; }

/* The beginning of part p of n rows: whole blocks. */
static long cut(long n, long all, long p) { return least(n, p * (((n + all - 1) / all + MR - 1) / MR * MR)); }

void stack_forward(const Stack *k)
{
    const long all = parts(k);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(k->threads) if (k->threads > 1)
    for (long s = 0; s < k->stack; s++)
        for (long p = 0; p < all; p++) {
            const Network n = network(k, s);
            forward(&n, cut(k->rows, all, p), cut(k->rows, all, p + 1));
        }
}

/* As `network`, with room for gradients of what layers give: `room` for one network, from place `at` on. */
static Network with_gradients(const Stack *k, long s, const float *grad, float *room, long at)
{
    Network n = network(k, s);
    n.grad[k->layers - 1] = (float *)grad + s * k->rows * k->sizes[k->layers];
    for (long l = 0; l + 1 < k->layers; l++) room += at * k->rows * k->sizes[l + 1];
    for (long l = 0; l + 1 < k->layers; room += k->rows * k->sizes[++l]) n.grad[l] = room;
    return n;
}

/* Numbers in what the layers but the last give. */
static long inner_size(const Stack *k)
{
    long all = 0;
    for (long l = 0; l + 1 < k->layers; l++) all += k->rows * k->sizes[l + 1];
    return all;
}

void stack_backward(const Stack *k, const Gradients *g)
{
    const long all = parts(k);
    if (all == 1) {
#pragma omp parallel for schedule(dynamic) num_threads(k->threads) if (k->threads > 1)
        for (long s = 0; s < k->stack; s++) {
            const Network n = with_gradients(k, s, g->grad, scratch(1, inner_size(k)), 0);
            backward(&n, g);
        }
        return;
    }
    float *room = scratch(1, k->stack * inner_size(k));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(k->threads)
    for (long s = 0; s < k->stack; s++)
        for (long p = 0; p < all; p++) {
            const Network n = with_gradients(k, s, g->grad, room, s);
            for (long l = k->layers - 1; l >= (g->dx ? 0 : 1); l--)
                backward_input(&n, l, g->dx + s * k->rows * k->sizes[0], cut(k->rows, all, p), cut(k->rows, all, p + 1));
        }
    if (!g->dw) return;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(k->threads)
    for (long s = 0; s < k->stack; s++)
        for (long l = 0; l < k->layers; l++)
            for (long p = 0; p < all; p++) {
                const Network n = with_gradients(k, s, g->grad, room, s);
                backward_weight(&n, g, l, cut(k->sizes[l], all, p), cut(k->sizes[l], all, p + 1));
            }
}

typedef struct {
    const float *y;            /* network s reads y + start[s], (rows, targets), rows ldy apart */
    const long *start;
    long ldy;
    const float *low, *high;   /* bounds of the log-variance, (stack, targets) */
} Targets;

/* In place of out (rows, 2 targets), means and raw log-variances, the gradient of
   mean[(m - y)^2 exp(-v) + v] with v = low + softplus(a - low), a = high - softplus(high - raw):
   with u = exp(high - raw) and q = exp(a - low) = exp(high - low) / (1 + u), exp(-v) is exp(-low) / (1 + q). */
static void gaussian(float *out, const Targets *t, const Stack *k, long s)
{
    const long targets = k->sizes[k->layers] / 2;
    const float share = 1.0f / ((float)k->rows * (float)targets);
    for (long j = 0; j < targets; j += VL) {
        const long n = targets - j;
        const vec low = get(t->low + s * targets + j, n), high = get(t->high + s * targets + j, n);
        const vec range = exponential(high - low), floor = exponential(-low);
        for (long i = 0; i < k->rows; i++) {
            float *mean = out + i * 2 * targets + j, *raw = mean + targets;
            const vec error = get(mean, n) - get(t->y + t->start[s] + i * t->ldy + j, n);
            const vec u = exponential(high - get(raw, n)), q = range / (1.0f + u), weighed = error * floor / (1.0f + q);
            put(mean, 2.0f * share * weighed, n);
            put(raw, share * (1.0f - error * weighed) * (q / (1.0f + q)) * (u / (1.0f + u)), n);
        }
    }
}

/* Gradients of the likelihood of all members, of weights and biases; nothing of a pass is kept. */
void stack_gaussian(const Stack *k, const Targets *t, const Gradients *g)
{
#pragma omp parallel for schedule(dynamic) num_threads(k->threads) if (k->threads > 1)
    for (long s = 0; s < k->stack; s++) {
        float *room = scratch(1, 2 * inner_size(k) + k->rows * k->sizes[k->layers]);
        Network n = network(k, s);
        for (long l = 0; l < k->layers; l++) {
            n.h[l] = room;
            room += k->rows * k->sizes[l + 1];
            n.slope[l] = n.grad[l] = l + 1 < k->layers ? room : n.h[l]; /* each takes the place of what it is made of */
            if (l + 1 < k->layers) room += k->rows * k->sizes[l + 1];
        }
        n.slope[k->layers - 1] = NULL;
        forward(&n, 0, k->rows);
        gaussian(n.h[k->layers - 1], t, k, s);
        backward(&n, g);
    }
}
