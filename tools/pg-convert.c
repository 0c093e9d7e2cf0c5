/* A checkpoint in another format, precision or picture size; an adapter merged into its base. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "convert.h"
#include "weights/adapter.h"

static const char help[] =
    "usage: pg-convert [options] SRC DST\n"
    "       pg-convert [options] --merge BASE ADAPTER DST\n"
    "Writes the checkpoint SRC as DST: *.npz (big_vision, Kaggle), *.safetensors (Hugging Face), or a new folder that\n"
    "transformers' from_pretrained loads. Values are copied bit for bit unless --dtype or --resolution asks for others.\n"
    "\n"
    "      --dtype f32|bf16|f16|int8   all tensors; int8: matrices as int8 with scales (safetensors)\n"
    "      --resolution N   position embeddings for pictures of N pixels, interpolated\n"
    "      --format safetensors|npz    of a folder (default safetensors)\n"
    "      --shard-size MB  safetensors in several files of at most so many million bytes (default 5000)\n"
    "      --merge          add the adapter's low-rank products to the base's weights\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "example:\n"
    "  pg-convert paligemma-3b-pt-224.npz paligemma-3b-pt-224-hf\n";

enum { O_DTYPE = 256, O_RESOLUTION, O_FORMAT, O_SHARD, O_MERGE };

typedef struct options {
    bool convert, npz, merge;
    const char *format;
    pg_dtype dtype;
    size_t resolution, shard;
} options;

static void parse(pg_tool *t, options *o, int argc, char **argv)
{
    static const struct option list[] = {{"dtype", 1, NULL, O_DTYPE}, {"resolution", 1, NULL, O_RESOLUTION}, {"format", 1, NULL, O_FORMAT},
                                         {"shard-size", 1, NULL, O_SHARD},
                                         {"merge", 0, NULL, O_MERGE}, {NULL, 0, NULL, 0}};
    tool_start(t, "pg-convert", help, argc, argv);
    for (int c; (c = tool_getopt(t, "", list, false)) != -1;)
        switch (c) {
        case O_DTYPE:
            for (o->dtype = PG_F32; strcmp(optarg, pg_dtype_name(o->dtype)) != 0; o->dtype++)
                if (o->dtype == PG_DTYPES - 1) tool_usage(t, "--dtype '%s': not f32, bf16, f16 or int8", optarg);
            o->convert = true;
            break;
        case O_RESOLUTION: o->resolution = tool_size(t, "--resolution", optarg, 1, 1 << 16); break;
        case O_FORMAT:
            o->format = optarg;
            o->npz = !strcmp(optarg, "npz");
            if (!o->npz && strcmp(optarg, "safetensors") != 0) tool_usage(t, "--format '%s': neither safetensors nor npz", optarg);
            break;
        case O_SHARD: o->shard = tool_size(t, "--shard-size", optarg, 1, 1 << 24) * 1000 * 1000; break;
        case O_MERGE: o->merge = true; break;
        default: break;
        }
    int want = o->merge ? 3 : 2;
    if (argc - optind != want)
        tool_usage(t, argc - optind < want ? "too few operands: %s are wanted" : "too many operands: %s are wanted", o->merge ? "BASE, ADAPTER and DST" : "SRC and DST");
    const char *dst = argv[argc - 1];
    tool_checkpoint_name(t, dst);
    bool file = pg_ends_with(dst, ".npz") || pg_ends_with(dst, ".safetensors");
    if (file && o->format) tool_usage(t, "--format is for a folder; '%s' says itself what it is", dst);
    if (o->convert && o->dtype == PG_I8 && (file ? pg_ends_with(dst, ".npz") : o->npz)) tool_usage(t, "--dtype int8: only safetensors files hold it");
}

typedef struct merging {
    pg_adapter *adapter;
    pg_merge *merge;
} merging;

static void open_merge(pg_tool *t, merging *g, const pg_weights *base, const char *path, const char *dst, pg_save_how *how)
{
    pg_err e = {0};
    bool foreign;
    if (pg_adapter_open(&g->adapter, path, &e) || pg_merge_new(&g->merge, base, g->adapter, &e) ||
        pg_adapter_is_foreign(g->adapter, base, &foreign, &e))
        tool_die(t, EXIT_FAIL, "%s", e.msg);
    if (pg_same_file(dst, pg_adapter_path(g->adapter))) tool_die(t, EXIT_FAIL, "writing '%s' would change the adapter: choose another folder", dst);
    if (foreign) tool_warn(t, "the adapter '%s' was trained on other weights than '%s'", path, pg_weights_path(base));
    how->merge = g->merge;
}

/* What goes nowhere must not go unseen. */
static void say_others(const pg_tool *t, const pg_weights *w, const char *to)
{
    const char *first;
    size_t n = pg_weights_others(w, &first);
    if (n && (pg_weights_format(w) == PG_NPZ || pg_ends_with(to, ".npz")))
        tool_info(t, "%zu tensor%s, the first '%s', %s of the model's and left out", n, n == 1 ? "" : "s", first, n == 1 ? "is none" : "are none");
}

int main(int argc, char **argv)
{
    pg_tool t;
    options o = {0};
    pg_err e = {0};
    pg_weights *w;
    pg_model_shape s;
    place p;
    parse(&t, &o, argc, argv);
    const char *src = argv[optind], *dst = argv[argc - 1];
    if (pg_weights_open(&w, src, &e) || pg_weights_shape(w, &s, &e)) tool_die(&t, EXIT_FAIL, "%s", e.msg);
    if (o.resolution && o.resolution != s.image_size) {
        if (pg_weights_resize(w, o.resolution, &e)) tool_die(&t, EXIT_FAIL, "%s", e.msg);
        tool_info(&t, "position embeddings of %zu pixels made from those of %zu: fine-tune before relying on them", o.resolution, s.image_size);
    }
    pg_save_how how = {.own = true, .convert = o.convert, .dtype = o.dtype, .shard = o.shard};
    merging g = {0};
    if (o.merge) open_merge(&t, &g, w, argv[optind + 1], dst, &how);
    place_open(&t, &p, dst, o.npz, w);
    say_others(&t, w, p.weights);
    if (pg_weights_save_as(w, p.weights, &how, &e) || copy_tokenizer(&t, w, p.weights, &e)) {
        place_abort(&p);
        tool_die(&t, EXIT_FAIL, "%s", e.msg);
    }
    place_commit(&t, &p);
    pg_merge_free(g.merge);
    pg_adapter_close(g.adapter);
    pg_weights_close(w);
    return tool_close_stdout(&t);
}
