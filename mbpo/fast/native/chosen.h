/* A stack of which every row passes through one network alone. */

#pragma once

#include "networks.h"

typedef struct {
    const long *which, *begin; /* network s takes the rows which[begin[s]] .. which[begin[s + 1]] of what it reads */
    long each;                 /* networks one after the other that share a result (rows, out) */
    float *out;                /* (stack / each, rows, out) */
} Chosen;

static void chosen_forward(const Stack *given, const Chosen *c, long s)
{
    Stack k = *given;
    const long *which = c->which + c->begin[s], in = k.sizes[0], out = k.sizes[k.layers];
    k.rows = c->begin[s + 1] - c->begin[s], k.ldx = in;
    long floats = k.rows * in;
    for (long l = 0; l < k.layers; l++) floats += k.rows * k.sizes[l + 1];
    float *room = scratch(1, floats), *x = room;
    Network n = {.of = &k, .s = s, .x = x};
    for (long l = 0; l < k.layers; l++) n.h[l] = room += k.rows * k.sizes[l];
    for (long i = 0; i < k.rows; i++) memcpy(x + i * in, given->x + given->start[s] + which[i] * given->ldx, 4 * in);
    forward(&n, 0, k.rows);
    float *to = c->out + s / c->each * given->rows * out;
    for (long i = 0; i < k.rows; i++) memcpy(to + which[i] * out, n.h[k.layers - 1] + i * out, 4 * out);
}

void stack_chosen(const Stack *k, const Chosen *c)
{
#pragma omp parallel for schedule(dynamic) num_threads(k->threads) if (k->threads > 1)
    for (long s = 0; s < k->stack; s++)
        if (c->begin[s + 1] > c->begin[s]) chosen_forward(k, c, s);
}
