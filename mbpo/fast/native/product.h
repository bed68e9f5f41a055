/* Matrix products on one core, whose sums are activated, or multiplied, before they are stored.

   Sums are of single precision. Factors are too, or they are pairs of bf16 as `pairs.h` makes them: then a step of a sum
   is a pair, and `depth` counts pairs.

   Matrices are row-major. The right factor is packed in panels of NV vectors that lie in the order in which they are
   read; MR rows of the left factor meet a panel at a time, so that MR x NV sums stay in registers. Each sum runs over
   its index in order and by itself: neither the blocks nor the number of threads change a bit of it. */

#pragma once

#include "pairs.h"

enum { MR = WIDTH == 16 ? 8 : WIDTH == 8 ? 6 : 4, NV = WIDTH == 16 ? 3 : 2 };
enum { MC = 72 }; /* rows of the left factor for which a panel stays in the first cache */

enum { NONE, RELU, SILU, RELU_BACK, SILU_BACK };

/* What becomes of a product's sums; matrices are (rows, columns) with rows `ld` apart. */
typedef struct {
    int act;
    const float *bias;   /* (columns), added first, or NULL */
    const float *factor; /* of SILU_BACK, what to multiply by; of RELU_BACK, where it is 0 nothing passes */
    float *slope;        /* of SILU, takes the derivative, or NULL */
    float *out;          /* may be `factor` */
    long ld;
} Finish;

/* Of `n` columns those of vector j: of several vectors all but the last are whole. */
INLINE long part(long n, long j, long vectors) { return j + 1 < vectors ? VL : n - j * VL; }

INLINE void finish_as(const int act, const Finish *f, const vec *sum, long rows, long vectors, long row, long column, long n)
{
    UNROLL for (long j = 0; j < vectors; j++, column += VL) {
        const long here = part(n, j, vectors);
        const vec bias = f->bias ? get(f->bias + column, here) : (vec){0};
        long at = row * f->ld + column;
        UNROLL for (long i = 0; i < rows; i++, at += f->ld) {
            vec z = sum[i * vectors + j] + bias;
            if (act == RELU) z = choose(z < 0.0f, (vec){0}, z);
            if (act == RELU_BACK) z = choose(get(f->factor + at, here) <= 0.0f, (vec){0}, z);
            if (act == SILU_BACK) z *= get(f->factor + at, here);
            if (act == SILU) {
                const vec share = 1.0f / (1.0f + exponential(-z)), h = z * share;
                if (f->slope) put(f->slope + at, share + h * (1.0f - share), here);
                z = h;
            }
            put(f->out + at, z, here);
        }
    }
}

#define FINISH(act) \
    case act: \
        if (whole) finish_as(act, f, sum, MR, NV, row, column, NV * VL); \
        else finish_as(act, f, sum, rows, vectors, row, column, n); \
        break;

/* Stores rows x vectors sums, the first of which belongs to (row, column); n columns are left from there. */
APART void finish(const Finish *f, const vec *sum, long rows, long vectors, long row, long column, long n)
{
    const int whole = rows == MR && vectors == NV && n >= NV * VL;
    switch (f->act) { FINISH(NONE) FINISH(RELU) FINISH(SILU) FINISH(RELU_BACK) FINISH(SILU_BACK) }
}

/* `rows` rows times one panel; element (i, p) of the left factor is at a[i * row + p * column]. */
INLINE void tile(const int rows, const int vectors, const int pairs, const float *a, long row, long column, const float *panel,
                 long depth, const Finish *f, long i0, long j0, long columns)
{
    vec sum[MR][NV], kept[MR * NV];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = (vec){0};
    for (long p = 0; p < depth; p++, a += column, panel += vectors * VL) {
        vec b[NV];
        UNROLL for (int j = 0; j < vectors; j++) b[j] = *(const vec *)(panel + j * VL);
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) {
            if (pairs) sum[i][j] = add_pair(sum[i][j], a + i * row, b[j]);
            else sum[i][j] += a[i * row] * b[j];
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) kept[i * vectors + j] = sum[i][j];
    finish(f, kept, rows, vectors, i0, j0, columns - j0);
}

/* The left factor: its rows `ld` apart (one row for all with 0), or packed: in blocks of MR rows as `pack_left` makes them. */
typedef struct {
    const float *at;
    long ld, depth;
    int packed, pairs;
} Left;

#define LAST(n) \
    case n: tile(n, vectors, pairs, a, row, column, panel, left->depth, f, i0, j0, columns); break;

INLINE void tiles(const int vectors, const int packed, const int pairs, const Left *left, const float *panel, const Finish *f,
                  long i0, long i1, long j0, long columns)
{
    const long row = packed ? 1 : left->ld, column = packed ? MR : 1, step = packed ? left->depth : left->ld;
    for (; i0 + MR <= i1; i0 += MR)
        tile(MR, vectors, pairs, left->at + i0 * step, row, column, panel, left->depth, f, i0, j0, columns);
    const float *a = left->at + i0 * step;
    switch (i1 - i0) {
        LAST(1) LAST(2) LAST(3)
#if WIDTH >= 8
        LAST(4) LAST(5)
#endif
#if WIDTH >= 16
        LAST(6) LAST(7)
#endif
    }
}


/* Vectors of the panel that begins at column j. */
static long panel_vectors(long columns, long j) { return least((columns - j + VL - 1) / VL, NV); }

INLINE void product_of(const int packed, const int pairs, const Left *left, const float *panels, const Finish *f, long i0, long i1,
                       long columns)
{
    for (long m = i0; m < i1; m += MC) {
        const float *panel = panels;
        for (long j = 0, vectors; j < columns; j += vectors * VL, panel += left->depth * vectors * VL) {
            vectors = panel_vectors(columns, j);
            const long stop = least(m + MC, i1);
            if (vectors == NV) tiles(NV, packed, pairs, left, panel, f, m, stop, j, columns);
            else if (vectors == 1) tiles(1, packed, pairs, left, panel, f, m, stop, j, columns);
#if WIDTH >= 16
            else tiles(2, packed, pairs, left, panel, f, m, stop, j, columns);
#endif
        }
    }
}

/* Rows i0 .. i1 of left times the right factor (depth, columns), which lies in panels. */
APART void product(const Left *left, const float *panels, const Finish *f, long i0, long i1, long columns)
{
    if (left->packed && left->pairs) product_of(1, 1, left, panels, f, i0, i1, columns);
    else if (left->packed) product_of(1, 0, left, panels, f, i0, i1, columns);
    else if (left->pairs) product_of(0, 1, left, panels, f, i0, i1, columns);
    else product_of(0, 0, left, panels, f, i0, i1, columns);
}

static long panels_size(long depth, long columns) { return depth * ((columns + VL - 1) / VL) * VL; }

INLINE float *pack_panel(const int vectors, const int pairs, const float *right, long ld, long depth, long n, float *to,
                         float *sums)
{
    vec total[NV] = {{0}};
    for (long p = 0; p < depth; p += pairs ? 2 : 1, right += pairs ? 2 * ld : ld)
        UNROLL for (int v = 0; v < vectors; v++, to += VL) {
            const long here = part(n, v, vectors);
            const vec x = get(right + v * VL, here);
            total[v] += x;
            if (pairs) {
                const vec y = p + 1 < depth ? get(right + ld + v * VL, here) : (vec){0};
                total[v] += y;
                *(vec *)to = pair(x, y);
            } else {
                *(vec *)to = x;
            }
        }
    UNROLL for (int v = 0; v < vectors; v++)
        if (sums) put(sums + v * VL, total[v], part(n, v, vectors));
    return to;
}

INLINE void pack_as(const int pairs, const float *right, long ld, long depth, long columns, float *to, float *sums)
{
    long j = 0;
    for (; j + NV * VL <= columns; j += NV * VL, sums = sums ? sums + NV * VL : NULL)
        to = pack_panel(NV, pairs, right + j, ld, depth, NV * VL, to, sums);
    switch (panel_vectors(columns, j)) {
    case 1: pack_panel(1, pairs, right + j, ld, depth, columns - j, to, sums); break;
    case 2: pack_panel(2, pairs, right + j, ld, depth, columns - j, to, sums); break;
    case 3: pack_panel(NV, pairs, right + j, ld, depth, columns - j, to, sums); break;
    }
}

/* right (depth, columns) in panels, the last filled up with zeros, as pairs or not; `sums` of its columns unless NULL. */
static void pack(const float *right, long ld, long depth, long columns, int pairs, float *to, float *sums)
{
    if (pairs) pack_as(1, right, ld, depth, columns, to, sums);
    else pack_as(0, right, ld, depth, columns, to, sums);
}

typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int order __attribute__((vector_size(32)));

INLINE void transpose8(const float *from, long ld, float *to, long step)
{
    const order low = {0, 8, 1, 9, 4, 12, 5, 13}, high = {2, 10, 3, 11, 6, 14, 7, 15};
    const order front = {0, 1, 8, 9, 4, 5, 12, 13}, back = {2, 3, 10, 11, 6, 7, 14, 15};
    const order first = {0, 1, 2, 3, 8, 9, 10, 11}, second = {4, 5, 6, 7, 12, 13, 14, 15};
    eight r[8], t[8];
    UNROLL for (int i = 0; i < 8; i++) r[i] = *(const eight *)(from + i * ld);
    UNROLL for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shuffle(r[i], r[i + 1], low);
        t[i + 1] = __builtin_shuffle(r[i], r[i + 1], high);
    }
    UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int k = 0; k < 2; k++) {
        r[i + 2 * k] = __builtin_shuffle(t[i + k], t[i + k + 2], front);
        r[i + 2 * k + 1] = __builtin_shuffle(t[i + k], t[i + k + 2], back);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        *(eight *)(to + i * step) = __builtin_shuffle(r[i], r[i + 4], first);
        *(eight *)(to + (i + 4) * step) = __builtin_shuffle(r[i], r[i + 4], second);
    }
}

/* The transpose of from (columns, depth) in panels, as `pack`. */
static void pack_transposed(const float *from, long ld, long depth, long columns, float *to)
{
    for (long j = 0, width; j < columns; j += width, to += depth * width) {
        width = panel_vectors(columns, j) * VL;
        long c = 0, p;
        for (; c + 8 <= least(width, columns - j); c += 8) {
            const float *rows = from + (j + c) * ld;
            for (p = 0; p + 8 <= depth; p += 8) transpose8(rows + p, ld, to + p * width + c, width);
            for (; p < depth; p++)
                for (long i = 0; i < 8; i++) to[p * width + c + i] = rows[i * ld + p];
        }
        for (; c < width; c++)
            for (p = 0; p < depth; p++) to[p * width + c] = j + c < columns ? from[(j + c) * ld + p] : 0.0f;
    }
}

/* Rows i0 .. i1 of the transpose of from (depth, rows) in blocks of MR rows, each column after column. */
static void pack_left(const float *from, long ld, long depth, long i0, long i1, float *to)
{
    long i = i0;
    for (; i + MR <= i1; i += MR)
        for (long p = 0; p < depth; p++, to += MR) memcpy(to, from + p * ld + i, 4 * MR);
    for (long p = 0; p < depth && i < i1; p++, to += MR) memcpy(to, from + p * ld + i, 4 * (i1 - i));
}
