/* What the machine offers, and what a checkpoint or a stream holds, as text. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/file.h"
#include "base/guard.h"
#include "kernels/kernels.h"
#include "info.h"
#include "model/loss.h"
#include "weights/adapter.h"

static const char help[] =
    "usage: pg-info [options] [MODEL | STREAM.pgs | -]...\n"
    "Says what this machine offers (no operand), what a checkpoint holds, or what a stream holds (- is standard input).\n"
    "\n"
    "MODEL is a folder, a .npz or a .safetensors file; or an adapter's.\n"
    "\n"
    "      --tensors    list a model's tensors: name, type, shape\n"
    "      --checksums  CRC-32 of each tensor's values, the same in every format\n"
    "      --verify     read a model whole: checksums in the file, values that are not finite\n"
    "      --max-record SIZE  refuse larger records of a stream (default 1G)\n"
    "  -j, --threads N  threads that the tools would use (default: the cores this process may use)\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "example:\n"
    "  pg-fetch photos/ | pg-resize | pg-info -\n";

enum { OPT_TENSORS = 0x100, OPT_CHECKSUMS, OPT_VERIFY, MAX_KEYS = 4096, CAPTION = 128, BATCH = 8 };

/* Names come from files: nothing in them may steer a terminal or begin a line. */
static void put_text(const char *s, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t hidden;
        len = pg_utf8_look(s + i, n - i, &hidden);
        if (!len) len = 1;
        if (hidden != UINT32_MAX) putchar('?');
        else fwrite(s + i, 1, len, stdout);
    }
}

static void put_name(const char *s) { put_text(s, strlen(s)); }

static void put_bytes(const char *label, double n, const char *what)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (n >= 1024 && u < 4) n /= 1024, u++;
    printf("%-16s%.*f %s%s\n", label, u ? 1 : 0, n, units[u], what);
}

/* ---- the machine ---- */

/* The value of the first line of /proc/cpuinfo that begins with key; false: there is none. */
static bool cpu_value(const pg_tool *t, const char *key, char *value, size_t size)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f && errno != ENOENT) tool_die(t, EXIT_FAIL, "cannot open '/proc/cpuinfo': %s", strerror(errno));
    while (f && !found && fgets(line, sizeof line, f)) {
        char *v = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) || !v) continue;
        v[strcspn(v, "\n")] = 0;
        snprintf(value, size, "%s", v + 1 + (v[1] == ' '));
        found = true;
    }
    if (f) fclose(f);
    return found;
}

static void put_cpu(const pg_tool *t)
{
    char name[512], maker[16], part[16];
    if (cpu_value(t, "model name", name, sizeof name)) {
        printf("%-16s", "cpu");
        put_name(name);
        putchar('\n');
    } else if (cpu_value(t, "CPU implementer", maker, sizeof maker) && cpu_value(t, "CPU part", part, sizeof part)) { /* all that ARM has */
        printf("%-16simplementer ", "cpu");
        put_name(maker);
        fputs(", part ", stdout);
        put_name(part);
        putchar('\n');
    }
    printf("%-16s", "cpu features");
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    bool any = false;
#define SHOW(x) (__builtin_cpu_supports(x) ? (void)(any = true, fputs(x " ", stdout)) : (void)0)
    SHOW("sse4.2");
    SHOW("avx");
    SHOW("fma");
    SHOW("avx2");
    SHOW("avx512f");
    SHOW("avx512bw");
    SHOW("avx512dq");
    SHOW("avx512vl");
    SHOW("avx512vnni");
    SHOW("avx512bf16");
#undef SHOW
    puts(any ? "" : "none of those used");
#elif defined(__aarch64__)
    unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
    printf("neon%s%s%s%s\n", has & HWCAP_ASIMDDP ? " dotprod" : "", has & HWCAP_SVE ? " sve" : "", has2 & HWCAP2_I8MM ? " i8mm" : "",
           has2 & HWCAP2_BF16 ? " bf16" : "");
#else
    puts("none of those used");
#endif
}

static void machine(pg_tool *t)
{
    pg_err e = {0};
    pg_kern *k;
    if (pg_kern_new(&k, t->threads, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    put_cpu(t);
    printf("%-16s%s\n%-16s%s\n%-16s%zu\n", "kernels", pg_kern_isa(k), "matrix products", pg_kern_blas(k), "threads", pg_kern_threads(k));
    printf("%-16s%s\n%-16s%s\n", "bf16 products", pg_kern_bf16(k), "int8 products", pg_kern_int8(k));
    long page = sysconf(_SC_PAGESIZE), all = sysconf(_SC_PHYS_PAGES), unused = sysconf(_SC_AVPHYS_PAGES);
    if (page > 0 && all > 0) put_bytes("memory", (double)page * (double)all, "");
    if (page > 0 && unused > 0) put_bytes("memory free", (double)page * (double)unused, " (without caches that would give way)");
    pg_kern_free(k);
}

/* ---- a model ---- */

static void put_tensors(const pg_weights *w)
{
    for (size_t i = 0; i < pg_weights_count(w); i++) {
        const pg_weight *x = pg_weights_at(w, i);
        put_name(x->name);
        printf(" %s [", pg_dtype_name(x->dtype));
        for (size_t d = 0; d < x->ndim; d++) printf("%s%zu", d ? "," : "", x->shape[d]);
        puts("]");
    }
}

/* Name, type, shape and checksum under the names of big_vision, layers stacked: equal lines are equal values, whatever the layout. */
static int put_checksums(const pg_tool *t, const pg_weights *w)
{
    for (size_t i = 0; i < pg_canonical_count(w); i++) {
        const pg_canonical *c = pg_canonical_at(w, i);
        pg_err e = {0};
        uint32_t crc;
        pg_dtype type;
        if (pg_weights_checksum(w, i, &crc, &type, &e)) {
            tool_error(t, "%s", e.msg);
            return EXIT_FAIL;
        }
        printf("%s %s [", c->name, pg_dtype_name(type));
        if (c->layers) printf("%zu%s", c->layers, c->ndim ? "," : "");
        for (size_t d = 0; d < c->ndim; d++) printf("%s%zu", d ? "," : "", c->shape[d]);
        printf("] %08x\n", crc);
    }
    return EXIT_OK;
}

static void say_fault(void *ctx, const char *text)
{
    tool_error(ctx, "%s", text);
}

static int verify(pg_tool *t, const pg_weights *w)
{
    pg_err e = {0};
    size_t faults = 0;
    if (pg_weights_verify(w, say_fault, t, &faults, &e)) {
        tool_error(t, "%s", e.msg);
        return EXIT_FAIL;
    }
    printf("%-16s%zu faults in %zu tensors%s\n", "verified", faults, pg_weights_count(w),
           pg_weights_format(w) == PG_NPZ ? "" : " (a safetensors file has no checksums)");
    return faults ? EXIT_FAIL : EXIT_OK;
}

static double trainable(const pg_weights *w, const char *prefix)
{
    double n = 0;
    for (size_t i = 0; i < pg_canonical_count(w); i++) {
        const pg_canonical *c = pg_canonical_at(w, i);
        if (strncmp(c->name, prefix, strlen(prefix))) continue;
        double one = c->layers ? (double)c->layers : 1;
        for (size_t d = 0; d < c->ndim; d++) one *= (double)c->shape[d];
        n += one;
    }
    return n;
}

/* What a README.md beside the weights says first: its heading and the paragraph below it. Model cards begin with YAML between lines of
 * "---", which is for machines. */
static void put_card(const char *path)
{
    enum { MAX_LINES = 12 };
    char line[1024], *dir = pg_is_dir(path) ? pg_strdup(path) : pg_path_dir(path), *card = dir ? pg_path_join(dir, "README.md") : NULL;
    FILE *f = card ? fopen(card, "r") : NULL;
    bool yaml = false, heading = false;
    for (size_t n = 0, put = 0; f && put < MAX_LINES && fgets(line, sizeof line, f); n++) {
        line[strcspn(line, "\r\n")] = 0;
        if (!strcmp(line, "---") && (yaml || !n)) yaml = !yaml;
        else if (yaml || (!line[0] && put < (heading ? 2u : 1u))) continue;
        else if (!line[0] || (put && line[0] == '#')) break;
        else {
            heading = heading || line[0] == '#';
            printf("%-16s", put++ ? "" : "about");
            put_name(line + strspn(line, "# "));
            putchar('\n');
        }
    }
    if (f) fclose(f);
    free(card);
    free(dir);
}

typedef struct wishes {
    bool tensors, checksums, verify;
} wishes;

static int model(pg_tool *t, const char *path, const wishes *wish)
{
    int status = EXIT_OK;
    pg_err e = {0};
    pg_weights *w = NULL;
    pg_model_shape s;
    if (pg_weights_open(&w, path, &e)) {
        tool_error(t, "%s", e.msg);
        return EXIT_FAIL;
    }
    if (wish->tensors) put_tensors(w);
    if (pg_weights_shape(w, &s, &e)) {
        if (strstr(e.msg, "PaliGemma")) tool_error(t, "%s", e.msg);
        else tool_error(t, "'%s' is not a PaliGemma: %s", path, e.msg);
        pg_weights_close(w);
        return EXIT_FAIL;
    }
    if (wish->checksums) { /* these lines alone, to be compared */
        status = put_checksums(t, w);
        if (wish->verify && !status) status = verify(t, w);
        pg_weights_close(w);
        return status;
    }
    size_t types[PG_DTYPES] = {0};
    for (size_t i = 0; i < pg_weights_count(w); i++) types[pg_weights_at(w, i)->dtype]++;
    double bytes = (double)pg_weights_bytes(w);
    /* One picture: the decoder's keys and values, its logits, and what one layer of the image tower works on. */
    double text = (double)s.n_image + CAPTION;
    double own = 8.0 * (double)s.depth * (double)s.kv_heads * (double)s.head_dim * text + 4.0 * (double)s.vocab +
                 4.0 * (double)s.n_image * (8.0 * (double)s.vit_width + (double)s.vit_mlp + (double)s.width) +
                 4.0 * text * (6.0 * (double)s.width + 2.0 * (double)s.mlp);
    printf("%-16s", "model");
    put_name(pg_weights_path(w));
    putchar('\n');
    put_card(path);
    printf("%-16sPaliGemma%s\n", "family", s.family == 2 ? " 2" : "");
    printf("%-16s%s\n", "format", pg_weights_format(w) == PG_NPZ ? "npz" : "safetensors");
    printf("%-16s%zux%zu, patches of %zu, %zu image tokens\n", "image", s.image_size, s.image_size, s.patch, s.n_image);
    printf("%-16swidth %zu, depth %zu, mlp %zu, heads %zu of %zu\n", "image tower", s.vit_width, s.vit_depth, s.vit_mlp, s.vit_heads, s.vit_head_dim);
    printf("%-16swidth %zu, depth %zu, mlp %zu, heads %zu of %zu, key heads %zu\n", "decoder", s.width, s.depth, s.mlp, s.heads, s.head_dim, s.kv_heads);
    printf("%-16s%zu tokens (%zu rows)\n", "vocabulary", s.vocab, s.vocab_rows);
    printf("%-16s", "types");
    for (size_t i = 0, some = 0; i < PG_DTYPES; i++)
        if (types[i]) printf("%s%s (%zu)", some++ ? ", " : "", pg_dtype_name((pg_dtype)i), types[i]);
    printf("\n%-16s%zu\n%-16s%zu\n", "tensors", pg_weights_count(w), "parameters", s.parameters);
    printf("%-16s%zu\n", "bytes", pg_weights_bytes(w));
    put_bytes("weights", bytes, ", mapped: shared between processes");
    put_bytes("inference", own, " more per picture in a batch, about");
    static const char *const what[][2] = {{"attention", "llm/layers/attn/"}, {"llm", "llm/"}, {"all", ""}};
    for (size_t i = 0; i < 3; i++) {
        char label[32];
        snprintf(label, sizeof label, "train %s", what[i][0]);
        double activations = (double)pg_shape_loss_bytes(&s, !*what[i][1], s.n_image + CAPTION, BATCH);
        put_bytes(label, 8 * trainable(w, what[i][1]) + activations, " more, about: values and gradients in f32, activations of a batch of 8");
    }
    if (!wish->tensors && !wish->verify) info_time(t, &s, bytes);
    if (wish->verify) status = verify(t, w);
    pg_weights_close(w);
    return status;
}

/* ---- an adapter ---- */

static int adapter(pg_tool *t, const char *path, const wishes *wish)
{
    pg_err e = {0};
    pg_adapter *a;
    pg_weights *w = NULL;
    int status = EXIT_OK;
    size_t language = 0, tower = 0, head = 0, rank = 0, values = 0;
    if (pg_adapter_open(&a, path, &e)) {
        tool_error(t, "%s", e.msg);
        return EXIT_FAIL;
    }
    if (wish->checksums || pg_weights_open(&w, pg_adapter_path(a), &e)) {
        tool_error(t, "%s", wish->checksums ? "--checksums names tensors as big_vision does, which has no adapters" : e.msg);
        pg_adapter_close(a);
        return EXIT_FAIL;
    }
    if (wish->tensors) put_tensors(w);
    for (size_t i = 0; i < pg_adapter_count(a); i++) {
        const pg_lora_module *m = pg_adapter_at(a, i);
        *(!strncmp(m->name, "language", 8) ? &language : !strncmp(m->name, "vision", 6) ? &tower : &head) += 1;
        rank = m->rank > rank ? m->rank : rank;
        values += m->rank * (m->in + m->out);
    }
    printf("%-16s", "adapter");
    put_name(pg_adapter_path(a));
    printf("\n%-16s", "base");
    put_name(pg_adapter_base(a) ? pg_adapter_base(a) : "not said");
    printf("\n%-16s%zu of the language model, %zu of the image tower%s\n%-16s%zu, scaled by %g\n%-16s%zu\n", "layers", language, tower,
           head ? ", and its head" : "", "rank", rank, pg_adapter_at(a, 0)->scale, "parameters", values);
    if (wish->verify) status = verify(t, w);
    pg_weights_close(w);
    pg_adapter_close(a);
    return status;
}

/* A folder that PEFT or pg-train wrote, or the file in it. */
static bool is_adapter(const char *path)
{
    char *config = pg_is_dir(path) ? pg_path_join(path, "adapter_config.json") : NULL;
    bool yes = pg_ends_with(path, "adapter_model.safetensors") || (config && pg_is_file(config));
    free(config);
    return yes;
}

/* ---- a stream ---- */

typedef struct key_row {
    char *key, type[24], shape[96];
    uint64_t n;
} key_row;
typedef struct keys {
    key_row *row;
    size_t n;
    uint64_t left_out;
} keys;

static const char *type_name(unsigned char b)
{
    if (b <= 0x7f || b >= 0xe0 || (b >= 0xcc && b <= 0xd3)) return "int";
    if (b <= 0x8f || b == 0xde || b == 0xdf) return "map";
    if (b <= 0x9f || b == 0xdc || b == 0xdd) return "array";
    if (b <= 0xbf || (b >= 0xd9 && b <= 0xdb)) return "str";
    if (b == 0xc0) return "nil";
    if (b == 0xc2 || b == 0xc3) return "bool";
    if (b >= 0xc4 && b <= 0xc6) return "bin";
    if (b == 0xca || b == 0xcb) return "float";
    return "ext";
}

static void count_keys(pg_tool *t, keys *k, const pg_rec *r)
{
    for (size_t i = 0; i < pg_rec_count(r); i++) {
        const char *key = pg_rec_key(r, i);
        size_t len, j, at = 0;
        const unsigned char *raw = pg_rec_raw(r, i, &len);
        char type[24], shape[96] = "";
        pg_tensor x;
        pg_err e = {0};
        snprintf(type, sizeof type, "%s", len ? type_name(raw[0]) : "nil");
        int tensor = !strcmp(type, "map") ? pg_rec_tensor(r, key, &x, &e) : 0;
        if (tensor == PG_ENOMEM) tool_die(t, EXIT_FAIL, "%s", e.msg);
        if (tensor == 1) {
            snprintf(type, sizeof type, "tensor %s", x.type);
            at = (size_t)snprintf(shape, sizeof shape, " [");
            for (size_t d = 0; d < x.ndim && at < sizeof shape - 24; d++)
                at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%zu", d ? "," : "", x.shape[d]);
            snprintf(shape + at, sizeof shape - at, "]");
        }
        for (j = 0; j < k->n; j++)
            if (!strcmp(k->row[j].key, key) && !strcmp(k->row[j].type, type)) break;
        if (j == k->n) {
            if (k->n == MAX_KEYS) {
                k->left_out++;
                continue;
            }
            char *copy = pg_strdup(key);
            key_row *more = copy ? pg_realloc(k->row, k->n + 1, sizeof *more) : NULL;
            if (!more) tool_no_memory(t);
            k->row = more;
            k->row[k->n++] = (key_row){.key = copy};
            memcpy(k->row[j].type, type, sizeof type);
            memcpy(k->row[j].shape, shape, sizeof shape);
        }
        k->row[j].n++;
        if (strcmp(k->row[j].shape, shape)) snprintf(k->row[j].shape, sizeof k->row[j].shape, " of several shapes");
    }
}

static void put_chain(const pg_tool *t, const pg_rec *h)
{
    json_error_t why = {0};
    for (size_t i = 0; i < pg_rec_count(h); i++) {
        if (strcmp(pg_rec_key(h, i), "chain")) continue;
        pg_buf b = {0};
        int rc = pg_rec_json(h, i, false, &b, NULL);
        json_t *all = rc ? NULL : pg_json_load((const char *)b.data, b.len, JSON_ALLOW_NUL, &why), *one, *arg;
        size_t n, m;
        if (rc == PG_ENOMEM || (!rc && !all && pg_json_no_memory(&why))) tool_no_memory(t);
        json_array_foreach(all, n, one)
        {
            const char *program = json_string_value(json_object_get(one, "program")), *version = json_string_value(json_object_get(one, "version"));
            printf("%-16s", n ? "" : "chain");
            put_name(program ? program : "?");
            json_array_foreach(json_object_get(one, "args"), m, arg)
            {
                putchar(' ');
                put_name(json_is_string(arg) ? json_string_value(arg) : "?");
            }
            fputs("  (", stdout);
            put_name(version ? version : "no version");
            puts(")");
        }
        json_decref(all);
        pg_buf_free(&b);
    }
}

static int stream(pg_tool *t, int fd, const char *name)
{
    pg_err e = {0};
    pg_reader *in = NULL;
    pg_rec *h = pg_rec_new(), *r = pg_rec_new();
    keys k = {0};
    uint64_t errors = 0;
    const char *kind;
    size_t n;
    int rc, status = EXIT_OK;
    if (!h || !r) tool_no_memory(t);
    if ((rc = pg_reader_new(&in, fd, name, &e)) < 0) goto out;
    pg_reader_limit(in, tool_max_record(t));
    if ((rc = pg_reader_header(in, h, &e)) < 0) goto out;
    while ((rc = pg_reader_next(in, r, &e)) == 1) {
        errors += pg_rec_has_error(r);
        count_keys(t, &k, r);
    }
    printf("%-16s", "stream");
    put_name(name);
    printf("\n%-16s", "kind");
    if (pg_rec_str(h, "kind", &kind, &n, NULL) == 1) put_text(kind, n);
    else fputs("unknown", stdout);
    putchar('\n');
    put_chain(t, h);
    printf("%-16s%llu%s\n", "records", (unsigned long long)pg_reader_count(in), rc < 0 ? " before the fault" : "");
    printf("%-16s%llu\n", "with errors", (unsigned long long)errors);
    put_bytes("size", (double)pg_reader_offset(in), "");
    for (size_t i = 0; i < k.n; i++) {
        printf("%-16s", i ? "" : "keys");
        put_name(k.row[i].key);
        printf(": ");
        put_name(k.row[i].type);
        printf("%s, in %llu\n", k.row[i].shape, (unsigned long long)k.row[i].n);
    }
    if (k.left_out) printf("%-16sand others, %llu values\n", "", (unsigned long long)k.left_out);
out:
    if (rc < 0) {
        tool_error(t, "%s", e.msg);
        status = tool_stream_status(&e);
    }
    for (size_t i = 0; i < k.n; i++) free(k.row[i].key);
    free(k.row);
    pg_reader_free(in);
    pg_rec_free(h);
    pg_rec_free(r);
    return status;
}

static int file(pg_tool *t, const char *path, const wishes *wish)
{
    unsigned char first = 0;
    if (!strcmp(path, "-")) {
        if (isatty(STDIN_FILENO)) tool_usage(t, "no input: '-' is a stream on standard input, which is a terminal");
        return stream(t, STDIN_FILENO, "standard input");
    }
    if (is_adapter(path)) return adapter(t, path, wish);
    if (pg_is_dir(path) || pg_ends_with(path, ".npz") || pg_ends_with(path, ".safetensors") || pg_ends_with(path, ".json"))
        return model(t, path, wish);
    int fd = open(path, O_RDONLY | O_CLOEXEC), status;
    if (fd < 0) {
        tool_error(t, "cannot open '%s': %s", path, strerror(errno));
        return EXIT_FAIL;
    }
    /* By its name a stream, or a file that begins as one: with a map. A pipe cannot be looked into. */
    bool map = pg_pread_full(fd, &first, 1, 0) != 1 || (first >= 0x80 && first <= 0x8f) || first == 0xde || first == 0xdf;
    if (pg_ends_with(path, ".pgs") || map) status = stream(t, fd, path);
    else {
        tool_error(t, "'%s' is neither a model (a folder, .npz, .safetensors) nor a stream", path);
        status = EXIT_FAIL;
    }
    close(fd);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option opts[] = {
        {"tensors", 0, NULL, OPT_TENSORS}, {"checksums", 0, NULL, OPT_CHECKSUMS}, {"verify", 0, NULL, OPT_VERIFY}, TOOL_MAX_RECORD, {NULL, 0, NULL, 0}};
    pg_tool t;
    wishes wish = {0};
    int status = EXIT_OK;
    tool_start(&t, "pg-info", help, argc, argv);
    for (int c; (c = tool_getopt(&t, "", opts, true)) != -1;)
        if (c == OPT_TENSORS) wish.tensors = true;
        else if (c == OPT_CHECKSUMS) wish.checksums = true;
        else if (c == OPT_VERIFY) wish.verify = true;
    if (optind == argc) {
        if (wish.tensors || wish.checksums || wish.verify) tool_usage(&t, "--tensors, --checksums and --verify want a model");
        machine(&t);
    }
    for (int i = optind, shown = 0; i < argc; i++) {
        if (shown++) putchar('\n');
        int one = file(&t, argv[i], &wish);
        if (!status) status = one;
    }
    int closed = tool_close_stdout(&t);
    return status ? status : closed;
}
