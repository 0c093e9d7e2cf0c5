/* Decoding against the oracle's captions and scores (tests/golden/model/README.md): greedy, beams, samples; and that a caption does
 * not depend on who else is decoded. Decisions there hang on no distance below 3e-3 (draws: 1e-4), so tokens must be equal. */
#include "fixture.h"

#include "model/decode.h"
#include "model/pick.h"
#include "model/seat.h"

#define LOGP 2e-5
#define SAMPLE_LOGP 5e-5
#define PROBABILITY 1e-6

enum { DECODES = 5, PREFIX = 8, MAX_LEN = 12 };

typedef struct inputs {
    float *pixels;
    int32_t *prefix, *len;
    pg_caption c[DECODES];
    int32_t tokens[DECODES][MAX_LEN];
} inputs;

static void open_inputs(inputs *in, const fixture *f)
{
    size_t one = f->m->s.image_size * f->m->s.image_size * 3;
    memset(in, 0, sizeof *in);
    in->pixels = floats(f->in, "decode_image");
    in->prefix = ints(f->in, "decode_prefix");
    in->len = ints(f->in, "decode_prefix_len");
    for (size_t i = 0; i < DECODES; i++)
        in->c[i] = (pg_caption){.pixels = in->pixels + i * one, .prefix = in->prefix + i * PREFIX, .n_prefix = (size_t)in->len[i],
                                .tokens = in->tokens[i], .stream = i};
}

static void close_inputs(inputs *in)
{
    free(in->pixels);
    free(in->prefix);
    free(in->len);
}

/* Each text grows by one token at a time; the last one told of is the caption. */
typedef struct told {
    const inputs *in;
    size_t n[DECODES], calls;
} told;

static int tell(void *ctx, pg_caption *c)
{
    told *t = ctx;
    size_t i = (size_t)(c - t->in->c);
    t->calls++;
    assert_true(c->n == t->n[i] + 1);
    t->n[i] = c->n;
    return 0;
}

static void check_captions(fixture *f, const pg_decoding *how, const char *key, size_t seats)
{
    char logp_key[64];
    int32_t *want = ints(f->out, key);
    double *want_logp;
    inputs in;
    told t = {.in = &in};
    pg_decoding h = *how;
    snprintf(logp_key, sizeof logp_key, "%s_logp", key);
    want_logp = doubles(f->out, logp_key);
    open_inputs(&in, f);
    if (!h.beams) {
        h.told = tell;
        h.ctx = &t;
    }
    must(pg_decode(f->m, f->w, &h, in.c, DECODES, seats, &err));
    for (size_t i = 0; i < DECODES; i++) {
        const pg_caption *c = &in.c[i];
        size_t n = 0;
        while (n < MAX_LEN && want[i * MAX_LEN + n])
            n++;
        assert_int_equal(c->err.code, 0);
        assert_int_equal(c->n, n);
        assert_memory_equal(c->tokens, want + i * MAX_LEN, n * sizeof *want);
        assert_int_equal(c->ended, c->tokens[n - 1] == 1);
        if (!h.beams)
            assert_int_equal(t.n[i], n);
        if (!(fabs(c->logprob - want_logp[i]) <= LOGP))
            fail_msg("%s: logprob %zu is %.8f, not %.8f", key, i, c->logprob, want_logp[i]);
    }
    close_inputs(&in);
    free(want);
    free(want_logp);
}

static void check_all(fixture *f, const char *before)
{
    static const struct {
        const char *key;
        size_t beams, max_len;
    } kinds[] = {{"greedy", 0, 12}, {"greedy_max4", 0, 4}, {"beam2", 2, 12}, {"beam4", 4, 12}, {"beam2_max4", 2, 4}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char key[64];
        pg_decoding how = {.max_len = kinds[i].max_len, .beams = kinds[i].beams, .final_softcap = *before ? 30 : 0};
        snprintf(key, sizeof key, "%s%s", before, kinds[i].key);
        if (*before && kinds[i].max_len == 4)
            continue; /* not among the answers */
        check_captions(f, &how, key, 5);
        check_captions(f, &how, key, 2);
        check_captions(f, &how, key, 1);
    }
}

static void test_captions_are_the_oracles(void **s)
{
    static const char *const files[] = {"pg1.npz", "pg2.npz", "pg1-hf", "pg2-hf"};
    (void)s;
    for (size_t i = 0; i < 4; i++)
        for (size_t threads = 1; threads <= 3; threads++) {
            char family[4] = {files[i][0], files[i][1], files[i][2], 0}, out[16];
            snprintf(out, sizeof out, "%s_out", family);
            fixture f = open_fixture(files[i], family, threads, out);
            check_all(&f, "");
            if (family[2] == '2')
                check_all(&f, "cap30_");
            close_fixture(&f);
        }
}

static void test_precisions(void **s)
{
    static const char *const kinds[] = {"f16", "bf16", "mixed"};
    (void)s;
    for (size_t i = 0; i < 3; i++) {
        char file[64], key[64];
        snprintf(file, sizeof file, "pg1.%s.npz", kinds[i]);
        snprintf(key, sizeof key, "%s/greedy", kinds[i]);
        fixture f = open_fixture(file, "pg1", 1, "pg1_variants_out");
        check_captions(&f, &(pg_decoding){.max_len = 12}, key, 5);
        close_fixture(&f);
    }
}

/* ---- drawing ---- */
static void test_probabilities(void **s)
{
    static const char *const families[] = {"pg1", "pg2"};
    (void)s;
    for (size_t f = 0; f < 2; f++) {
        char path[64];
        pg_npz *z;
        snprintf(path, sizeof path, DIR "%s_out.npz", families[f]);
        must(pg_npz_open(&z, path, &err));
        const pg_npy *shape = array(z, "sampling_logits", "<f8");
        size_t rows = shape->shape[0], V = shape->shape[1], samplers = array(z, "sampling_temperature", "<f8")->count;
        double *logits = doubles(z, "sampling_logits"), *want = doubles(z, "sampling_probs"), *u = doubles(z, "pick_u");
        double *temperature = doubles(z, "sampling_temperature"), *top_p = doubles(z, "sampling_top_p");
        double *p = malloc(2 * V * sizeof *p);
        float *x = malloc(V * sizeof *x);
        int32_t *token = ints(z, "pick_token");
        assert_true(p && x && rows == 2 && samplers == 7);
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < samplers; k++) {
                const double *w = want + (r * samplers + k) * V;
                for (size_t i = 0; i < V; i++)
                    x[i] = (float)logits[r * V + i];
                pg_probabilities(p, p + V, x, V, temperature[k], top_p[k]);
                for (size_t i = 0; i < V; i++)
                    if (!(fabs(p[i] - w[i]) <= PROBABILITY) || (p[i] > 0) != (w[i] > 0))
                        fail_msg("%s, row %zu, sampler %zu: p(%zu) is %.9f, not %.9f", families[f], r, k, i, p[i], w[i]);
            }
        for (size_t i = 0; i < array(z, "pick_u", "<f8")->count; i++)
            assert_int_equal(pg_draw(want + (samplers + 2) * V, V, u[i]), token[i]);
        free(logits);
        free(want);
        free(u);
        free(temperature);
        free(top_p);
        free(p);
        free(x);
        free(token);
        pg_npz_close(z);
    }
}

static void test_pick_and_ties(void **s)
{
    const double p[] = {0, 0.25, 0, 0.5, 0.25, 0};
    const float x[] = {1, 3, 2, 3, -1, 3}, equal[] = {0, 0, 0, 0};
    int32_t top[6];
    double q[4], room[4];
    (void)s;
    assert_int_equal(pg_draw(p, 6, 0), 1);
    assert_int_equal(pg_draw(p, 6, 0.2499999), 1);
    assert_int_equal(pg_draw(p, 6, 0.25), 3); /* the sum must exceed u */
    assert_int_equal(pg_draw(p, 6, 0.75), 4);
    assert_int_equal(pg_draw(p, 6, 1 - 0x1p-53), 4);
    pg_top(top, 4, x, 6);
    assert_memory_equal(top, ((const int32_t[]){1, 3, 5, 2}), 4 * sizeof *top);
    pg_probabilities(q, room, equal, 4, 1, 0.3); /* what ties with the cut stays */
    for (size_t i = 0; i < 4; i++)
        assert_true(q[i] == 0.25);
}

typedef struct given {
    const double *u; /* [samples][MAX_LEN] */
    size_t first;
} given;

static double given_uniform(void *ctx, const pg_caption *c, size_t sample, size_t at)
{
    const given *g = ctx;
    (void)c;
    return g->u[(g->first + sample) * MAX_LEN + at];
}

static void test_samples_are_the_oracles(void **s)
{
    static const char *const families[] = {"pg1", "pg2"};
    enum { WHICH = 3, SAMPLES = 3 };
    (void)s;
    for (size_t k = 0; k < 2; k++) {
        char file[16], out[16];
        snprintf(file, sizeof file, "%s.npz", families[k]);
        snprintf(out, sizeof out, "%s_out", families[k]);
        fixture f = open_fixture(file, families[k], 2, out);
        double *u = doubles(f.out, "sample_u"), *logp = doubles(f.out, "sample_logp"), *t = doubles(f.out, "sample_temperature");
        double *top_p = doubles(f.out, "sample_top_p");
        int32_t *want = ints(f.out, "sample"), *best = ints(f.out, "sample_best_of_3");
        given g = {.u = u};
        inputs in;
        open_inputs(&in, &f);
        pg_decoding how = {.max_len = MAX_LEN, .temperature = *t, .top_p = *top_p, .uniform = given_uniform, .ctx = &g};
        for (size_t i = 0; i <= SAMPLES; i++) { /* each alone, then the best of all */
            size_t is = i < SAMPLES ? i : (size_t)*best, n = 0;
            pg_caption *c = &in.c[WHICH];
            g.first = i < SAMPLES ? i : 0;
            how.samples = i < SAMPLES ? 1 : SAMPLES;
            must(pg_decode(f.m, f.w, &how, c, 1, 1, &err));
            while (n < MAX_LEN && want[is * MAX_LEN + n])
                n++;
            assert_int_equal(c->n, n);
            assert_memory_equal(c->tokens, want + is * MAX_LEN, n * sizeof *want);
            if (!(fabs(c->logprob - logp[is]) <= SAMPLE_LOGP))
                fail_msg("sample %zu: logprob %.8f, not %.8f", i, c->logprob, logp[is]);
        }
        free(u);
        free(logp);
        free(t);
        free(top_p);
        free(want);
        free(best);
        close_inputs(&in);
        close_fixture(&f);
    }
}

/* What is drawn depends on seed, stream and nothing else. */
static void draw(fixture *f, size_t seats, uint64_t seed, size_t samples, int order, int32_t tokens[DECODES][MAX_LEN])
{
    inputs in;
    pg_caption c[DECODES];
    open_inputs(&in, f);
    for (size_t i = 0; i < DECODES; i++)
        c[i] = in.c[order > 0 ? i : DECODES - 1 - i];
    pg_decoding how = {.max_len = MAX_LEN, .temperature = 1.5, .seed = seed, .samples = samples};
    must(pg_decode(f->m, f->w, &how, c, DECODES, seats, &err));
    memcpy(tokens, in.tokens, sizeof in.tokens);
    close_inputs(&in);
}

static void test_draws_do_not_depend_on_the_others(void **s)
{
    (void)s;
    for (size_t samples = 1; samples <= 4; samples += 3) {
        int32_t base[DECODES][MAX_LEN], other[DECODES][MAX_LEN];
        fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out"), g = open_fixture("pg1.npz", "pg1", 3, "pg1_out");
        draw(&f, 5, 7, samples, 1, base);
        for (size_t seats = 1; seats <= 4; seats++) {
            draw(&f, seats, 7, samples, 1, other);
            assert_memory_equal(base, other, sizeof base);
            draw(&g, seats, 7, samples, -1, other);
            assert_memory_equal(base, other, sizeof base);
        }
        draw(&f, 5, 8, samples, 1, other);
        assert_memory_not_equal(base, other, sizeof base);
        close_fixture(&f);
        close_fixture(&g);
    }
}

/* Nearly all tokens are equally likely: a number used twice would show as a token drawn twice. */
static void test_each_token_has_a_number_of_its_own(void **s)
{
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out");
    inputs in;
    size_t same = 0, shared = 0, n = 0;
    open_inputs(&in, &f);
    for (size_t i = 1; i < DECODES; i++)
        in.c[i].pixels = in.c[0].pixels;
    must(pg_decode(f.m, f.w, &(pg_decoding){.max_len = MAX_LEN, .temperature = 1e6, .seed = 1}, in.c, DECODES, 5, &err));
    for (size_t i = 0; i < DECODES; i++)
        for (size_t t = 0; t < in.c[i].n; t++, n++) {
            same += t && in.tokens[i][t] == in.tokens[i][t - 1];
            shared += i && t < in.c[0].n && in.tokens[i][t] == in.tokens[0][t];
        }
    assert_true(n > 30 && same < 5 && shared < 5);
    close_inputs(&in);
    close_fixture(&f);
}

/* First tokens drawn many times have the frequencies of the distribution: |z| < 4.5 in each of about 20 cells has odds of
 * 1 in 7,000 to fail for a right generator; the seed is fixed, so this passes always or never. */
static void test_frequencies(void **s)
{
    enum { N = 4000 };
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 2, "pg1_out");
    size_t V = f.m->s.vocab, one = f.m->s.n_image * f.m->s.width;
    double *p = malloc(2 * V * sizeof *p);
    size_t *count = calloc(V, sizeof *count);
    float *z = malloc(one * sizeof *z), *x = malloc(one * 2 * sizeof *x), *logits = malloc(V * sizeof *logits);
    pg_caption *c = calloc(N, sizeof *c);
    int32_t *tokens = calloc(N, sizeof *tokens);
    inputs in;
    assert_true(p && count && z && x && logits && c && tokens);
    open_inputs(&in, &f);
    must(pg_vit_forward(f.m, &in.c[0].pixels, 1, z, &err));
    for (size_t i = 0; i < N; i++) {
        c[i] = in.c[0];
        c[i].features = z;
        c[i].tokens = tokens + i;
        c[i].stream = i;
    }
    must(pg_decode(f.m, f.w, &(pg_decoding){.max_len = 1, .temperature = 2, .seed = 3}, c, N, 100, &err));
    for (size_t i = 0; i < N; i++)
        count[tokens[i]]++;
    size_t rows_n = f.m->s.n_image + in.c[0].n_prefix, D = f.m->s.width;
    uint32_t *pos = malloc(rows_n * sizeof *pos), *lim = malloc(rows_n * sizeof *lim);
    assert_true(pos && lim && rows_n * D <= 2 * one);
    for (size_t i = 0; i < rows_n; i++) {
        pos[i] = (uint32_t)i;
        lim[i] = (uint32_t)rows_n;
    }
    memcpy(x, z, one * sizeof *x);
    must(pg_embed(f.m, x + one, in.c[0].prefix, in.c[0].n_prefix, &err));
    pg_rows rows = {1, rows_n, (const size_t[]){0, rows_n}, pos, lim};
    must(pg_decoder_forward(f.m, f.w, x, &rows, NULL, NULL, &err));
    pg_logits(f.m, logits, x + (rows_n - 1) * D, 1);
    pg_probabilities(p, p + V, logits, V, 2, 0);
    for (size_t i = 0; i < V; i++) {
        double want = N * p[i], sd = sqrt(N * p[i] * (1 - p[i]));
        if (want > 20 && fabs((double)count[i] - want) > 4.5 * sd)
            fail_msg("token %zu drawn %zu times, %.0f expected", i, count[i], want);
    }
    free(p);
    free(count);
    free(z);
    free(x);
    free(logits);
    free(c);
    free(tokens);
    free(pos);
    free(lim);
    close_inputs(&in);
    close_fixture(&f);
}

/* ---- the rules of the search, on made-up options ---- */
/* Two beams, three likeliest tokens and eos of each; returns whether the search is over. */
static bool round_of(pg_decoder *d, pg_seat *seat, const pg_option *o)
{
    must(pg_seat_beams(d, seat, o, 4, &err));
    return seat->done;
}

static void check_live(const pg_seat *s, int32_t token0, double score0, int32_t token1, double score1)
{
    assert_int_equal(s->live, 2);
    assert_int_equal(s->nodes[s->paths[0].last].token, token0);
    assert_int_equal(s->nodes[s->paths[1].last].token, token1);
    assert_true(s->paths[0].score == score0 && s->paths[1].score == score1);
    assert_true(s->paths[0].slot != s->paths[1].slot);
}

static void test_rules_of_the_search(void **s)
{
    enum { EOS = 1 };
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out");
    pg_decoder *d;
    int32_t tokens[8];
    pg_caption c = {.tokens = tokens};
    must(pg_decoder_new(&d, f.m, f.w, &(pg_decoding){.max_len = 8, .beams = 2}, 1, &err));
    assert_true(pg_decoder_add(d, &c));
    pg_seat *seat = &d->seats[0];
    for (size_t i = 0; i < 2; i++)
        must(pg_cache_reserve(d->cache, seat->paths[i].slot, 8, 0, &err));

    /* eos is the likeliest: it is kept as a finished text and struck out of what goes on */
    assert_false(round_of(d, seat, (const pg_option[]){{EOS, -3}, {5, -3}, {4, -4}, {EOS, -3}}));
    check_live(seat, 5, -3, 4, -4);
    assert_true(seat->best_score == -3 && seat->best == PG_NOWHERE);

    /* A tie with the finished text: the older one stays, and the search goes on, as the live one is not below it.
     * Equal offers: the earlier beam first, then the likelier token. */
    assert_false(round_of(d, seat, (const pg_option[]){{7, 0}, {6, -1}, {9, -2}, {EOS, 0}, {8, 0}, {3, 0}, {2, -1}, {EOS, -9}}));
    check_live(seat, 7, -3, 6, -4);
    assert_true(seat->best == PG_NOWHERE);

    /* A likelier finished text takes its place; both go on from the second beam, one of them in the other's slot. */
    assert_false(round_of(d, seat, (const pg_option[]){{7, -9}, {6, -9}, {9, -9}, {EOS, 1}, {8, 2.5}, {3, 2}, {2, -1}, {EOS, -9}}));
    check_live(seat, 8, -1.5, 3, -2);
    assert_true(seat->best_score == -2);

    /* Over: what lives is below it. */
    assert_true(round_of(d, seat, (const pg_option[]){{7, -0.5625}, {6, -9}, {9, -9}, {EOS, -3}, {8, -9}, {3, -9}, {2, -9}, {EOS, -9}}));
    assert_int_equal(c.n, 3);
    assert_memory_equal(tokens, ((const int32_t[]){5, 7, EOS}), 3 * sizeof *tokens);
    assert_true(c.logprob == -2 && c.ended);
    assert_ptr_equal(pg_decoder_take(d), &c);
    pg_decoder_free(d);
    close_fixture(&f);
}

/* ---- the seats ---- */
static void test_a_seat_is_filled_again(void **s)
{
    (void)s;
    fixture f = open_fixture("pg2.npz", "pg2", 1, "pg2_out");
    int32_t *want = ints(f.out, "beam2");
    pg_decoder *d;
    inputs in;
    size_t added = 0, taken = 0, steps = 0;
    open_inputs(&in, &f);
    must(pg_decoder_new(&d, f.m, f.w, &(pg_decoding){.max_len = MAX_LEN, .beams = 2}, 2, &err));
    while (taken < DECODES && steps++ < 100) {
        while (added < DECODES && pg_decoder_add(d, &in.c[added]))
            added++;
        assert_int_equal(pg_decoder_seated(d), added - taken);
        assert_true(pg_decoder_seated(d) <= 2);
        must(pg_decoder_step(d, &err));
        for (const pg_caption *c; (c = pg_decoder_take(d)) != NULL; taken++)
            assert_memory_equal(c->tokens, want + (c - in.c) * MAX_LEN, c->n * sizeof *want);
    }
    assert_int_equal(taken, DECODES);
    assert_null(pg_decoder_take(d));
    must(pg_decoder_step(d, &err)); /* nobody there */
    pg_decoder_free(d);
    free(want);
    close_inputs(&in);
    close_fixture(&f);
}

static int stop(void *ctx, pg_caption *c)
{
    (void)c;
    return ++*(int *)ctx == 2;
}

static void test_one_that_fails_harms_nobody(void **s)
{
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out");
    int32_t *want = ints(f.out, "greedy"), outside[] = {2, 999, 9};
    inputs in;
    int calls = 0;
    open_inputs(&in, &f);
    in.pixels[7] = NAN;
    in.c[2].prefix = outside;
    in.c[2].n_prefix = 3;
    in.c[4].pixels = NULL;
    for (size_t seats = 1; seats <= 5; seats += 2) {
        must(pg_decode(f.m, f.w, &(pg_decoding){.max_len = MAX_LEN}, in.c, DECODES, seats, &err));
        assert_non_null(strstr(in.c[0].err.msg, "non-finite logits"));
        assert_non_null(strstr(in.c[2].err.msg, "999"));
        assert_non_null(strstr(in.c[4].err.msg, "without pixels"));
        for (size_t i = 1; i < DECODES; i += 2) {
            assert_int_equal(in.c[i].err.code, 0);
            assert_memory_equal(in.c[i].tokens, want + i * MAX_LEN, in.c[i].n * sizeof *want);
        }
    }
    assert_int_equal(pg_decode(f.m, f.w, &(pg_decoding){.max_len = 4, .told = stop, .ctx = &calls}, in.c + 1, 1, 1, &err), PG_FAIL);
    assert_int_equal(calls, 2);
    free(want);
    close_inputs(&in);
    close_fixture(&f);
}

static void test_impossible_options(void **s)
{
    static const pg_decoding bad[] = {{.max_len = 0}, {.max_len = 1, .beams = 2, .temperature = 1}, {.max_len = 1, .samples = 2},
                                      {.max_len = 1, .top_p = 0.5}, {.max_len = 1, .beams = PG_MAX_BEAMS + 1},
                                      {.max_len = 1, .samples = 2, .temperature = 1, .told = stop}};
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out");
    pg_decoder *d;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(pg_decoder_new(&d, f.m, f.w, &bad[i], 1, &err), PG_EINVAL);
        assert_null(d);
    }
    close_fixture(&f);
}

/* More beams than the search can fill, and captions of one token: an empty caption, ended. */
static void test_corners(void **s)
{
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 2, "pg1_out");
    inputs in;
    open_inputs(&in, &f);
    must(pg_decode(f.m, f.w, &(pg_decoding){.max_len = 1, .beams = 4}, in.c, DECODES, 5, &err));
    for (size_t i = 0; i < DECODES; i++) {
        assert_int_equal(in.c[i].n, 1);
        assert_int_equal(in.c[i].tokens[0], 1);
        assert_true(in.c[i].ended);
    }
    must(pg_decode(f.m, f.w, &(pg_decoding){.max_len = MAX_LEN, .beams = PG_MAX_BEAMS}, in.c, DECODES, 3, &err));
    for (size_t i = 0; i < DECODES; i++)
        assert_true(in.c[i].ended && in.c[i].n >= 1 && in.c[i].tokens[in.c[i].n - 1] == 1);
    close_inputs(&in);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captions_are_the_oracles),
        cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_probabilities),
        cmocka_unit_test(test_pick_and_ties),
        cmocka_unit_test(test_samples_are_the_oracles),
        cmocka_unit_test(test_draws_do_not_depend_on_the_others),
        cmocka_unit_test(test_each_token_has_a_number_of_its_own),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_rules_of_the_search),
        cmocka_unit_test(test_a_seat_is_filled_again),
        cmocka_unit_test(test_one_that_fails_harms_nobody),
        cmocka_unit_test(test_impossible_options),
        cmocka_unit_test(test_corners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
