/* Gradients of soft actor-critic, as `mbpo.sac` states its losses: of relu networks, everything of an update in one go. */

#pragma once

#include "draw.h"
#include "networks.h"

/* Room for numbers, taken piece by piece. */
static float *take(float **room, long floats)
{
    float *piece = *room;
    *room += (floats + 15) / 16 * 16;
    return piece;
}

enum { TWINS = 2 };

/* The networks of one run, out of the stack of all: one actor or both critics, with a place for what they give. */
typedef struct {
    Stack stack;
    long start[TWINS];
    const float *w[MOST_LAYERS], *b[MOST_LAYERS];
    float *h[MOST_LAYERS], *dw[MOST_LAYERS], *db[MOST_LAYERS];
    Gradients gradients;
} Own;

/* They read x, its rows `ld` apart; `g` takes gradients of their parameters, unless NULL. */
static void own_forward(Own *o, const Stack *all, const Soft *k, long r, long threads, const float *x, long ld,
                        const Gradients *g, float **room)
{
    const long each = all->stack / k->runs;
    *o = (Own){.stack = *all};
    for (long l = 0; l < all->layers; l++) {
        const long in = all->sizes[l], out = all->sizes[l + 1];
        o->w[l] = all->w[l] + r * each * in * out;
        o->b[l] = all->b[l] + r * each * out;
        o->dw[l] = g ? g->dw[l] + r * each * in * out : NULL;
        o->db[l] = g ? g->db[l] + r * each * out : NULL;
        o->h[l] = take(room, each * k->rows * out);
    }
    o->stack.stack = each, o->stack.rows = k->rows, o->stack.threads = threads;
    o->stack.x = x, o->stack.start = o->start, o->stack.ldx = ld;
    o->stack.w = o->w, o->stack.b = o->b, o->stack.h = o->h;
    stack_forward(&o->stack);
}

/* Gradients of parameters, from that of what the networks give. */
static void own_backward(Own *o, const float *grad)
{
    o->gradients = (Gradients){grad, NULL, o->dw, o->db};
    stack_backward(&o->stack, &o->gradients);
}

static float *given_by(const Own *o) { return o->h[o->stack.layers - 1]; }

/* What `own_forward` takes of the room. */
static long own_size(const Stack *all, const Soft *k)
{
    long floats = 0;
    for (long l = 0; l < all->layers; l++) floats += all->stack / k->runs * k->rows * all->sizes[l + 1] + 16;
    return floats;
}

/* The less of two, or what is no number. */
INLINE float lesser(float a, float b) { return a < b || a != a ? a : b; }

/* What the critics read at new actions: observations `obs` of the packed rows and, taken from the actor, actions. */
static float *joined(const Soft *k, long r, const float *obs, const float *out, float *log_prob, float **room)
{
    const long width = k->obs + k->action;
    float *x = take(room, k->rows * width);
    for (long i = 0; i < k->rows; i++) memcpy(x + i * width, obs + i * k->ld, 4 * k->obs);
    draw(k, out, k->noise + r * k->noise_run, x + k->obs, width, log_prob);
    return x;
}

static void critics_of(const Soft *k, const Stack *actor, const Stack *target, const Stack *critic, const Gradients *g, long r,
                       long threads)
{
    const long m = k->rows, inputs = k->obs + k->action;
    float *room = scratch(3, own_size(actor, k) + 2 * own_size(critic, k) + m * (inputs + 5) + 64);
    const float *data = k->data + r * k->run, *reward = data + inputs + k->obs;
    Own policy, targets, twins;
    own_forward(&policy, actor, k, r, threads, data + inputs, k->ld, NULL, &room);
    float *log_prob = take(&room, m), *pull = take(&room, TWINS * m);
    const float *x = joined(k, r, data + inputs, given_by(&policy), log_prob, &room);
    own_forward(&targets, target, k, r, threads, x, inputs, NULL, &room);
    own_forward(&twins, critic, k, r, threads, data, k->ld, g, &room);
    const float *soft = given_by(&targets), *q = given_by(&twins), alpha = k->alpha[r];
    double loss = 0.0, mean = 0.0;
    for (long i = 0; i < m; i++) {
        const float value = lesser(soft[i], soft[m + i]) - alpha * log_prob[i];
        const float y = reward[i * k->ld] + k->discount * reward[i * k->ld + 1] * value;
        for (long c = 0; c < TWINS; c++) {
            const float error = q[c * m + i] - y;
            pull[c * m + i] = 2.0f * k->scale / (float)m * error;
            loss += error * error;
            mean += q[c * m + i];
        }
    }
    k->first[r] = (float)(k->scale * loss / m);
    k->second[r] = (float)(mean / (TWINS * m));
    own_backward(&twins, pull);
}

/* Of critic c and `count` of its rows, which are all that its output's gradient `pull` is not zero at, the gradient of
   the actions among its inputs: (count, action). */
static void action_backward(const Own *o, const Soft *k, long c, const long *which, const float *pull, long count, float *to)
{
    const Stack *s = &o->stack;
    const long hidden = s->layers - 1;
    long widest = 0;
    for (long l = 1; l <= hidden; l++) widest = s->sizes[l] > widest ? s->sizes[l] : widest;
    float *room = scratch(1, 2 * k->rows * widest), *grad = room, *seen = room + k->rows * widest;
    for (long l = hidden; l >= 0; l--) {
        const long depth = s->sizes[l + 1], in = s->sizes[l], columns = l ? in : k->action;
        const float *w = s->w[l] + c * in * depth + (l ? 0 : k->obs * depth);
        for (long i = 0; l && i < count; i++) memcpy(seen + i * in, s->h[l - 1] + (c * k->rows + which[i]) * in, 4 * in);
        const Finish f = {l ? RELU_BACK : NONE, NULL, seen, NULL, l ? seen : to, columns};
        if (l == hidden) {
            column_backward(pull, w, &f, 0, count, columns);
        } else {
            const float *panels = transposed_panels(w, depth, depth, columns, s->pairs);
            const Left left = rows_of(grad, depth, depth, 0, count, s->pairs);
            product(&left, panels, &f, 0, count, columns);
        }
        float *taken = seen; /* what was masked in place is the next gradient */
        seen = grad, grad = taken;
    }
}

/* The rows at which a critic is the lesser one, and what its value there adds to the loss; equals share it. */
typedef struct {
    long count[TWINS], *which[TWINS];
    float *pull[TWINS];
} Lesser;

static Lesser lesser_rows(const float *q, long m, float each, float **room)
{
    Lesser l = {.count = {0}};
    for (long c = 0; c < TWINS; c++) {
        l.which[c] = (long *)take(room, m * (sizeof(long) / sizeof(float)));
        l.pull[c] = take(room, m);
    }
    for (long i = 0; i < m; i++) {
        const float a = q[i], b = q[m + i], share = a < b || b < a ? 1.0f : a == b ? 0.5f : a + b; /* no number */
        for (long c = 0; c < TWINS; c++) {
            if (c ? a < b : b < a) continue;
            l.which[c][l.count[c]] = i;
            l.pull[c][l.count[c]++] = share * each;
        }
    }
    return l;
}

static void actor_of(const Soft *k, const Stack *actor, const Stack *critic, const Gradients *g, long r, long threads)
{
    const long m = k->rows, inputs = k->obs + k->action, actions = m * k->action;
    float *room = scratch(3, own_size(actor, k) + own_size(critic, k) + m * (inputs + 7) + 3 * actions + 256);
    const float *data = k->data + r * k->run, *noise = k->noise + r * k->noise_run;
    Own policy, twins;
    own_forward(&policy, actor, k, r, threads, data, k->ld, g, &room);
    float *log_prob = take(&room, m), *pull = take(&room, actions), *parts = take(&room, TWINS * actions);
    const float *x = joined(k, r, data, given_by(&policy), log_prob, &room);
    own_forward(&twins, critic, k, r, threads, x, inputs, NULL, &room);
    const float *q = given_by(&twins), alpha = k->alpha[r];
    const Lesser l = lesser_rows(q, m, -1.0f / (float)m, &room);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long c = 0; c < TWINS; c++) action_backward(&twins, k, c, l.which[c], l.pull[c], l.count[c], parts + c * actions);
    memset(pull, 0, 4 * actions);
    for (long c = 0; c < TWINS; c++)
        for (long i = 0; i < l.count[c]; i++)
            for (long j = 0; j < k->action; j++) pull[l.which[c][i] * k->action + j] += parts[c * actions + i * k->action + j];
    double loss = 0.0, entropy = 0.0;
    for (long i = 0; i < m; i++) {
        loss += alpha * log_prob[i] - lesser(q[i], q[m + i]);
        entropy -= log_prob[i];
    }
    k->first[r] = (float)(loss / m);
    k->second[r] = (float)(entropy / m);
    draw_backward(k, given_by(&policy), noise, pull, alpha / (float)m);
    own_backward(&policy, given_by(&policy));
}

/* Whether runs occupy the threads alike; else each of them is cut. */
static long side_by_side(const Soft *k) { return k->runs % k->threads ? 1 : k->threads; }

/* Gradients of the critics' parameters; told are loss and mean value. */
void critic_gradients(const Soft *k, const Stack *actor, const Stack *target, const Stack *critic, const Gradients *g)
{
    const long outer = side_by_side(k);
#pragma omp parallel for num_threads(outer) if (outer > 1)
    for (long r = 0; r < k->runs; r++) critics_of(k, actor, target, critic, g, r, k->threads / outer);
}

/* Gradients of the actor's parameters; told are loss and entropy. */
void actor_gradients(const Soft *k, const Stack *actor, const Stack *critic, const Gradients *g)
{
    const long outer = side_by_side(k);
#pragma omp parallel for num_threads(outer) if (outer > 1)
    for (long r = 0; r < k->runs; r++) actor_of(k, actor, critic, g, r, k->threads / outer);
}
