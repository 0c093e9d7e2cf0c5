/* Checkpoints that are not what they should be: each fault is named, whichever reader meets it. */
#include "fixture.h"

#include "weights/internal.h"

static void says(int rc, const char *what)
{
    if (rc == PG_OK || !strstr(err.msg, what)) fail_msg("not \"%s\" but %d, \"%s\"", what, rc, rc ? err.msg : "");
}

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Index by index, in every order of axes that are long, short and 1; more elements than one block has. */
static void test_orders(void **state)
{
    (void)state;
    static const struct {
        size_t ndim, shape[PG_MAX_DIMS];
    } shapes[] = {{2, {3, 5}}, {2, {120, 77}}, {3, {2, 70, 130}}, {3, {90, 1, 101}}, {5, {3, 2, 4, 33, 17}}, {6, {2, 3, 1, 5, 67, 7}}, {1, {9000}}, {0, {0}}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned how = 1; how <= 3; how++)
            for (size_t size = 2; size <= 8; size *= 2) {
                pg_npy a = {.ndim = shapes[i].ndim, .count = 1, .itemsize = size};
                for (size_t k = 0; k < a.ndim; k++) a.count *= a.shape[k] = shapes[i].shape[k];
                unsigned char *in = calloc(a.count, size);
                assert_non_null(in);
                for (size_t c = 0; c < a.count; c++) { /* the c-th in C order */
                    size_t f = c;
                    if (how & PG_NPY_FORTRAN) {
                        f = 0;
                        for (size_t k = 0, left = c, all = a.count; k < a.ndim; k++) {
                            all /= a.shape[k];
                            size_t index = left / all, step = 1;
                            left %= all;
                            for (size_t j = 0; j < k; j++) step *= a.shape[j];
                            f += index * step;
                        }
                    }
                    for (size_t b = 0; b < 2; b++) in[f * size + (how & PG_NPY_BIG_ENDIAN ? size - 1 - b : b)] = (unsigned char)(c >> 8 * b);
                }
                a.data = in;
                pg_map m;
                assert_int_equal(pg_npy_reorder(&m, &a, how, &err), 0);
                for (size_t c = 0; c < a.count; c++)
                    if (pg_le16(a.data + c * size) != (c & 0xffff)) fail_msg("shape %zu, size %zu, way %u: element %zu", i, size, how, c);
                pg_map_close(&m);
                free(in);
            }
}

/* ---- .npy: a header of version 1 and `data` bytes ---- */
static unsigned odd;
static int npy(pg_npy *a, const char *header, size_t data)
{
    unsigned char buf[512] = "\x93NUMPY\1";
    size_t n = strlen(header);
    assert_true(10 + n + data <= sizeof buf);
    buf[8] = (unsigned char)n; /* all are shorter than 256 */
    memcpy(buf + 10, header, n);
    return pg_npy_parse(a, &odd, "x.npz", "a", buf, 10 + n + data, &err);
}

static void test_npy(void **state)
{
    (void)state;
    static const struct {
        const char *header, *what;
    } bad[] = {
        {"", "bad npy header"},
        {"[]", "bad npy header"},
        {"{}", "without descr, fortran_order or shape"},
        {"{'descr': '<f4', 'shape': (2,), }", "without descr, fortran_order or shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", "unknown key"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "bad npy header"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", "bad npy header"},
        {"{descr: '<f4', 'fortran_order': False, 'shape': (2,)}", "bad npy header"},
        {"{'a name of more than fifteen': 1}", "bad npy header"},
        {"{'descr' '<f4', 'fortran_order': False, 'shape': (2,)}", "bad npy header"},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,)}", "dtype is not a simple one"},
        {"{'descr': '<f4, 'fortran_order': False, 'shape': (2,)}", "bad npy header"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", "bad npy header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "bad shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "bad shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", "bad shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1)}", "more than 6 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "bad shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}", "shape overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", "its shape needs another number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "8 bytes of data, its shape needs another number"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "unknown dtype"},
        {"{'descr': '|O8', 'fortran_order': False, 'shape': (1,)}", "Python objects"},
        {"{'descr': '>V2', 'fortran_order': False, 'shape': (4,)}", "unknown dtype"},
        {"{'descr': '^f4', 'fortran_order': False, 'shape': (2,)}", "unknown dtype"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", "unknown dtype"},
        {"{'descr': '<f9', 'fortran_order': False, 'shape': (1,)}", "unknown dtype"},
        {"{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", "unknown dtype"},
        {"{'descr': '<U1000', 'fortran_order': False, 'shape': (1,)}", "unknown dtype"},
    };
    pg_npy a;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) says(npy(&a, bad[i].header, 8), bad[i].what);
    assert_int_equal(npy(&a, "{'shape': (2, 1), \"fortran_order\":False,'descr':'<f4'}\n", 8), PG_OK);
    assert_int_equal(a.count, 2);
    assert_int_equal(npy(&a, "{'descr': '=i8', 'fortran_order': True, 'shape': ()}", 8), PG_OK);
    assert_int_equal(a.count, 1);
    static const struct {
        const char *header;
        unsigned odd;
    } orders[] = {
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}", 0},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}", 0},
        {"{'descr': '<f2', 'fortran_order': True, 'shape': (2, 2)}", PG_NPY_FORTRAN},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", PG_NPY_BIG_ENDIAN},
        {"{'descr': '>f2', 'fortran_order': True, 'shape': (2, 1, 2)}", PG_NPY_BIG_ENDIAN | PG_NPY_FORTRAN},
        {"{'descr': '>u1', 'fortran_order': False, 'shape': (2, 4)}", 0},
        {"{'descr': '|V2', 'fortran_order': False, 'shape': (2, 2)}", 0},
    };
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        assert_int_equal(npy(&a, orders[i].header, 8), PG_OK);
        assert_int_equal(odd, orders[i].odd);
    }
    unsigned char head[] = "\x93NUMPY\1\0\xff\0{}";
    says(pg_npy_parse(&a, &odd, "x.npz", "a", head, 9, &err), "not a .npy file");
    says(pg_npy_parse(&a, &odd, "x.npz", "a", head, 12, &err), "longer than the member");
    head[6] = 2; /* four bytes of length */
    says(pg_npy_parse(&a, &odd, "x.npz", "a", head, 11, &err), "longer than the member");
    head[6] = 4;
    says(pg_npy_parse(&a, &odd, "x.npz", "a", head, 12, &err), "npy version 4");
}

static void put(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(v >> 8 * i);
}

/* An npz of one array 'a' = {1, 2}. */
static void good_npz(pg_buf *good)
{
    const float values[2] = {1, 2};
    const size_t shape = 2;
    pg_npz_writer *z;
    assert_int_equal(pg_npz_create(&z, at("good.npz"), &err), PG_OK);
    assert_int_equal(pg_npz_begin(z, "a", "<f4", 1, &shape, &err), PG_OK);
    assert_int_equal(pg_npz_data(z, values, sizeof values, &err), PG_OK);
    assert_int_equal(pg_npz_commit(z, &err), PG_OK);
    assert_int_equal(pg_file_read(at("good.npz"), 1 << 20, good, &err), PG_OK);
}

/* ---- zip: a good npz, some bytes of which are changed ---- */
enum { DIRECTORY, END }; /* what an offset counts from: the first entry of the directory, the record at the end */

static void test_zip(void **state)
{
    (void)state;
    static const struct {
        int from;
        size_t off, n;
        const char *bytes, *what;
    } bad[] = {
        {END, 0, 1, "x", "no zip directory at the end"},
        {END, 10, 2, "\x09\0", "shorter than its count of members"},
        {END, 12, 4, "\xff\xff\xff\x7f", "zip directory outside the file"},
        {END, 16, 4, "\xff\xff\xff\x7f", "zip directory outside the file"},
        {DIRECTORY, 0, 1, "x", "bad zip directory entry"},
        {DIRECTORY, 8, 1, "\1", "is encrypted"},
        {DIRECTORY, 10, 1, "\x0c", "compressed by method 12"},
        {DIRECTORY, 20, 4, "\xff\xff\xff\xff", "bad zip64 field"}, /* that it has no field of */
        {DIRECTORY, 20, 4, "\0\0\0\0", "reaches outside the file"}, /* stored, of two sizes */
        {DIRECTORY, 20, 8, "\xff\xff\xff\x7f\xff\xff\xff\x7f", "reaches outside the file"},
        {DIRECTORY, 28, 2, "\xff\xff", "longer than the directory"},
        {DIRECTORY, 42, 4, "\x01\0\0\0", "has no local header"},
        {DIRECTORY, 42, 4, "\xff\xff\xff\x7f", "has no local header"},
    };
    pg_npz *in;
    pg_buf good = {0};
    good_npz(&good);
    size_t end = good.len - 22, start = pg_le32(good.data + end + 16);
    assert_memory_equal(good.data + end, "PK\5\6", 4);
    assert_memory_equal(good.data + start, "PK\1\2", 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pg_buf b = {0};
        assert_int_equal(pg_buf_add(&b, good.data, good.len, &err), PG_OK);
        memcpy(b.data + (bad[i].from == END ? end : start) + bad[i].off, bad[i].bytes, bad[i].n);
        write_file(at("bad.npz"), b.data, b.len);
        says(pg_npz_open(&in, at("bad.npz"), &err), bad[i].what);
        pg_buf_free(&b);
    }
    write_file(at("bad.npz"), good.data, 21);
    says(pg_npz_open(&in, at("bad.npz"), &err), "no zip directory at the end");
    assert_int_equal(pg_npz_open(&in, at("good.npz"), &err), PG_OK);
    pg_npz_close(in);
    pg_buf_free(&good);
}

/* The same file as zip64 writes it: its sizes and offsets in an extra field, behind a foreign one, and in a record of its own. */
static void test_zip64(void **state)
{
    (void)state;
    static const struct {
        size_t off, n; /* off: from the end of the name in the directory */
        uint64_t value;
        const char *what;
    } cases[] = {
        {0, 0, 0, NULL},
        {2, 2, 99, "bad zip64 field"},    /* the foreign field is longer than all */
        {4, 2, 7, "bad zip64 field"},     /* no field of zip64's */
        {6, 2, 16, "bad zip64 field"},    /* too short for three numbers */
        {24, 8, UINT64_MAX, "has no local header"},
        {8, 8, UINT64_MAX, "reaches outside the file"},
        {32, 1, 'x', "bad zip64 end record"},
        {64, 8, UINT64_MAX, "shorter than its count"},
        {72, 8, UINT64_MAX, "zip directory outside the file"},
        {80, 8, UINT64_MAX, "zip directory outside the file"},
        {96, 8, UINT64_MAX, "bad zip64 end record"},
    };
    pg_buf good = {0};
    good_npz(&good);
    size_t end = good.len - 22, start = pg_le32(good.data + end + 16), name = pg_le16(good.data + start + 28);
    unsigned char entry[46] = {0}, rest[32 + 56 + 20 + 22] = {0};
    memcpy(entry, good.data + start, 46);
    put(entry + 30, 32, 2);
    put(rest, 9, 2); /* foreign, empty; then zip64's */
    put(rest + 4, 1, 2);
    put(rest + 6, 24, 2);
    put(rest + 8, pg_le32(entry + 24), 8);
    put(rest + 16, pg_le32(entry + 20), 8);
    put(rest + 24, pg_le32(entry + 42), 8);
    memset(entry + 20, 0xff, 8);
    memset(entry + 42, 0xff, 4);
    memcpy(rest + 32, "PK\6\6", 4); /* the end record, its place, the old end record */
    put(rest + 32 + 32, 1, 8);
    put(rest + 32 + 40, 46 + name + 32, 8);
    put(rest + 32 + 48, start, 8);
    memcpy(rest + 88, "PK\6\7", 4);
    put(rest + 96, start + 46 + name + 32, 8);
    memcpy(rest + 108, "PK\5\6", 4);
    memset(rest + 118, 0xff, 10);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pg_buf b = {0};
        unsigned char changed[sizeof rest];
        pg_npz *in;
        memcpy(changed, rest, sizeof rest);
        put(changed + cases[i].off, cases[i].value, cases[i].n);
        assert_int_equal(pg_buf_add(&b, good.data, start, &err), PG_OK);
        assert_int_equal(pg_buf_add(&b, entry, 46, &err), PG_OK);
        assert_int_equal(pg_buf_add(&b, good.data + start + 46, name, &err), PG_OK);
        assert_int_equal(pg_buf_add(&b, changed, sizeof changed, &err), PG_OK);
        write_file(at("wide.npz"), b.data, b.len);
        int rc = pg_npz_open(&in, at("wide.npz"), &err);
        if (cases[i].what) {
            says(rc, cases[i].what);
        } else {
            if (rc) fail_msg("%s", err.msg);
            const pg_npy *a = pg_npz_find(in, "a");
            assert_non_null(a);
            assert_memory_equal(a->data, ((float[]){1, 2}), 8);
            pg_npz_close(in);
        }
        pg_buf_free(&b);
    }
    pg_buf_free(&good);
}

/* ---- safetensors: a header of that text and eight bytes of data ---- */
static int safetensors(const char *header, uint64_t length)
{
    unsigned char buf[512] = {0};
    size_t n = strlen(header);
    assert_true(8 + n + 8 <= sizeof buf);
    for (size_t i = 0; i < 8; i++) buf[i] = (unsigned char)(length >> 8 * i);
    memcpy(buf + 8, header, n);
    write_file(at("bad.safetensors"), buf, 8 + n + 8);
    pg_weights *w;
    int rc = pg_weights_open(&w, at("bad.safetensors"), &err);
    if (!rc) pg_weights_close(w);
    return rc;
}

#define HEAD "{\"a\": {\"dtype\": \"F32\", "
static void test_safetensors(void **state)
{
    (void)state;
    static const struct {
        const char *header, *what;
    } bad[] = {
        {"", "bad header"},
        {"[1]", "not an object"},
        {"{\"a\": 1}", "'a' lacks dtype, shape or data_offsets"},
        {HEAD "\"shape\": [2]}}", "lacks dtype, shape or data_offsets"},
        {HEAD "\"shape\": [2], \"data_offsets\": [0]}}", "lacks dtype, shape or data_offsets"},
        {HEAD "\"shape\": [2], \"data_offsets\": [-1, 8]}}", "lacks dtype, shape or data_offsets"},
        {HEAD "\"shape\": [2], \"data_offsets\": [0, 8.0]}}", "lacks dtype, shape or data_offsets"},
        {HEAD "\"shape\": 2, \"data_offsets\": [0, 8]}}", "lacks dtype, shape or data_offsets"},
        {"{\"a\": {\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [0, 8]}}", "has dtype 'I64'"},
        {HEAD "\"shape\": [1, 1, 1, 1, 1, 1, 2], \"data_offsets\": [0, 8]}}", "has 7 dimensions"},
        {HEAD "\"shape\": [-2], \"data_offsets\": [0, 8]}}", "bad shape"},
        {HEAD "\"shape\": [4294967296, 4294967296, 2], \"data_offsets\": [0, 8]}}", "bad shape"},
        {HEAD "\"shape\": [4], \"data_offsets\": [0, 16]}}", "reaches outside the file"},
        {HEAD "\"shape\": [2], \"data_offsets\": [8, 0]}}", "reaches outside the file"},
        {HEAD "\"shape\": [3], \"data_offsets\": [0, 8]}}", "has 8 bytes, its shape needs another number"},
        {HEAD "\"shape\": [1], \"data_offsets\": [0, 4]}, \"a\": 1}", "bad header"},
        {HEAD "\"shape\": [2], \"data_offsets\": [0, 8]}, \"b\": {\"dtype\": \"F16\", \"shape\": [1], \"data_offsets\": [4, 6]}}",
         "tensors 'a' and 'b' overlap"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) says(safetensors(bad[i].header, strlen(bad[i].header)), bad[i].what);
    says(safetensors("{}", 11), "cut inside the header");
    says(safetensors("{}", UINT64_MAX), "over the limit");
    write_file(at("bad.safetensors"), "1234567", 7);
    pg_weights *w;
    says(pg_weights_open(&w, at("bad.safetensors"), &err), "too short");
}

/* An index beside a file of one tensor 'a'. */
static void test_index(void **state)
{
    (void)state;
    static const struct {
        const char *index, *what;
    } bad[] = {
        {"", "bad.safetensors.index.json': "},
        {"{}", "no weight_map"},
        {"{\"weight_map\": [\"a\"]}", "no weight_map"},
        {"{\"weight_map\": {\"a\": 1}}", "'a' is not in a file of the same folder"},
        {"{\"weight_map\": {\"a\": \"\"}}", "'a' is not in a file of the same folder"},
        {"{\"weight_map\": {\"a\": \"..\"}}", "'a' is not in a file of the same folder"},
        {"{\"weight_map\": {\"a\": \"../bad.safetensors\"}}", "'a' is not in a file of the same folder"},
        {"{\"weight_map\": {\"a\": \"absent.safetensors\"}}", "absent.safetensors': No such file"},
        {"{\"weight_map\": {\"b\": \"bad.safetensors\"}}", "hold tensors that it does not list"},
        {"{\"weight_map\": {\"a\": \"bad.safetensors\", \"b\": \"bad.safetensors\"}}", "it lists 2 tensors, its files hold 1"},
    };
    static const char one[] = HEAD "\"shape\": [2], \"data_offsets\": [0, 8]}}";
    (void)safetensors(one, sizeof one - 1); /* is no model, but read */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pg_weights *w;
        write_file(at("bad.safetensors.index.json"), bad[i].index, strlen(bad[i].index));
        says(pg_weights_open(&w, at("bad.safetensors.index.json"), &err), bad[i].what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npy), cmocka_unit_test(test_orders), cmocka_unit_test(test_zip), cmocka_unit_test(test_zip64),
                                       cmocka_unit_test(test_safetensors), cmocka_unit_test(test_index)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
