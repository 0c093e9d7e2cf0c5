/* common/net without a network but loopback: checksums, names and URLs, sources, what a model needs, parts, credentials. */
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "net/source.h"
#include "net/url.h"

/* Published: RFC 1321 A.5, RFC 3720 B.4, FIPS 180 examples; git hash-object. */
static const struct {
    const char *text, *crc32c, *md5, *sha256, *git;
} sums_of[] = {
    {"", "AAAAAA==", "1B2M2Y8AsgTpgAmY7PhCfg==", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"},
    {"foo", "z8SuHQ==", "rL0Y20zC+Fzt72VPzMSk2A==", "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "19102815663d23f8b75a47e7a01965dcdc96468c"},
    {"hello world", "yZRlqg==", "XrY7u+Ae7tCTyyK7j1rNww==", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9", "95d09f2b10159347eece71399a7e2e907ea3df4f"},
    {"123456789", "4waSgw==", "JfnnlDI7RTiF9RgfG2JNCw==", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225", "e2e107ac61ac259b87c544f6e7a4eb03422c6c21"}};

static void sums(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sums_of / sizeof *sums_of; i++) {
        pg_sums got, want = {0};
        pg_err e = {0};
        assert_int_equal(pg_hash_bytes(sums_of[i].text, strlen(sums_of[i].text), 15, &got, &e), PG_OK);
        assert_true(pg_sum_base64(&want, PG_SUM_CRC32C, sums_of[i].crc32c, 8));
        assert_true(pg_sum_base64(&want, PG_SUM_MD5, sums_of[i].md5, 24));
        assert_true(pg_sum_hex(&want, PG_SUM_SHA256, sums_of[i].sha256));
        assert_true(pg_sum_hex(&want, PG_SUM_GIT, sums_of[i].git));
        assert_int_equal(pg_sums_differ(&want, &got), 0);
        want.sha256[31] ^= 1;
        assert_int_equal(pg_sums_differ(&want, &got), PG_SUM_SHA256);
        assert_false(pg_sums_merge(&want, &got));
    }
}

static void crc_agrees(void **state)
{
    (void)state;
    unsigned char b[700];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (unsigned char)(i * 131 + i / 7);
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; from + n < sizeof b; n += 1 + n / 9) {
            uint32_t a = pg_crc32c_table(0, b + from, n);
            assert_int_equal(a, pg_crc32c(0, b + from, n));
            assert_int_equal(a, pg_crc32c(pg_crc32c(0, b + from, n / 3), b + from + n / 3, n - n / 3));
        }
    memset(b, 0, 32);
    assert_int_equal(pg_crc32c(0, b, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    memset(b, 0xff, 32);
    assert_int_equal(pg_crc32c(0, b, 32), 0x62a8ab43);
}

static void malformed_sums(void **state)
{
    (void)state;
    pg_sums s = {0};
    assert_false(pg_sum_hex(&s, PG_SUM_SHA256, "abc"));
    assert_false(pg_sum_hex(&s, PG_SUM_GIT, "zz102815663d23f8b75a47e7a01965dcdc96468c"));
    assert_false(pg_sum_base64(&s, PG_SUM_MD5, "rL0Y20zC", 8));
    assert_false(pg_sum_base64(&s, PG_SUM_MD5, "rL0Y20zC+Fzt72VPzMSk2A=!", 24));
    assert_false(pg_sum_base64(&s, PG_SUM_MD5, "rL0Y20zC+Fzt72VPzMSk2AAA", 24));
    assert_false(pg_sum_base64(&s, PG_SUM_CRC32C, "", 0));
    assert_int_equal(s.have, 0);
}

static void url_text(void **state)
{
    (void)state;
    static const char *const redacted[][2] = {{"https://u:p@h.org/a/b?X-Sig=1#f", "https://h.org/a/b?..."}, {"http://h/a", "http://h/a"},
                                              {"https://u@x@h/a@b?q", "https://h/a@b?..."}, {"gs://b/a?b#c", "gs://b/a?b#c"}, {"a?b.jpg", "a?b.jpg"}};
    for (size_t i = 0; i < 5; i++) {
        char *s = pg_url_redact(redacted[i][0]);
        assert_string_equal(s, redacted[i][1]);
        free(s);
    }
    char *enc = pg_url_encode("a b/c%?#\xc3\xa9~", false), *dec = pg_url_decode(enc);
    assert_string_equal(enc, "a%20b%2Fc%25%3F%23%C3%A9~");
    assert_string_equal(dec, "a b/c%?#\xc3\xa9~");
    free(enc);
    free(dec);
    assert_null(pg_url_decode("a%00b"));
    assert_true(pg_url_same_origin("https://h/a", "https://H:443/b?c"));
    assert_false(pg_url_same_origin("https://h/a", "http://h/a"));
    assert_false(pg_url_same_origin("http://h/a", "http://h:81/a"));
    assert_false(pg_url_same_origin("http://h/a", "http://h.evil/a"));
    assert_true(pg_url_is_private("http://127.0.0.1:5/x"));
    assert_true(pg_url_is_private("http://localhost/x"));
    assert_true(pg_url_is_private("http://[::1]:8/x"));
    assert_false(pg_url_is_private("http://127.evil.org/x"));
    assert_false(pg_url_is_private("http://localhost@evil.org/x"));
    assert_null(pg_url_last("https://h/"));
    assert_null(pg_url_last("https://h/a/%2e%2e"));
    assert_null(pg_url_last("https://h/a%2fb"));
}

static void names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "/a", "..", "a/../b", "a/.", "./a", "a//b", "a/", "a\\b", "a\nb", "../x", "a.part", "a/b.part.lock", "a.part.json"};
    static const char *const good[] = {"a", "a/b", "..a", "a..", "...", "a b#?%", "part", "a.part.txt", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!pg_name_reject(bad[i])) fail_msg("'%s' is taken", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (pg_name_reject(good[i])) fail_msg("'%s' is rejected", good[i]);
}

static void same(const char *a, const char *b)
{
    if (!b) assert_null(a);
    else {
        assert_non_null(a);
        assert_string_equal(a, b);
    }
}

static void sources(void **state)
{
    (void)state;
    static const char *const t[][4] = {
        {"kaggle://google/paligemma/jax/pt-224", "google/paligemma/jax/pt-224", NULL, NULL},
        {"kaggle://google/paligemma/jax/pt-224/", "google/paligemma/jax/pt-224", NULL, NULL},
        {"kaggle://google/paligemma/jax/pt-224/2", "google/paligemma/jax/pt-224", "2", NULL},
        {"kaggle://google/paligemma/jax/pt-224/2/a/b.npz", "google/paligemma/jax/pt-224", "2", "a/b.npz"},
        {"kaggle://google/paligemma/jax/pt-224/./b.npz", "google/paligemma/jax/pt-224", NULL, "b.npz"},
        {"hf://google/pg", "google/pg", NULL, NULL},
        {"hf://google/pg@float16", "google/pg", "float16", NULL},
        {"hf://google/pg@refs%2Fpr%2F1/a/b", "google/pg", "refs/pr/1", "a/b"},
        {"hf://google/pg/a/b@v1", "google/pg", "v1", "a/b"},
        {"hf://datasets/o/set", "datasets/o/set", NULL, NULL},
        {"hf://datasets/o/set@v1/a/b.jpg", "datasets/o/set", "v1", "a/b.jpg"},
        {"hf://datasets/o/set/b.jpg@v1", "datasets/o/set", "v1", "b.jpg"},
        {"gs://b", "b", NULL, NULL},
        {"gs://b/", "b", NULL, NULL},
        {"gs://b/a/b?c#d", "b", NULL, "a/b?c#d"},
        {"https://h/a/b%20c?d", "https://h/a/b%20c?d", NULL, "b c"}};
    static const char *const bad[] = {"kaggle://a/b/c", "kaggle://", "hf://a", "hf://a/b@", "hf://datasets/o", "hf://datasets/o/s@", "gs://", "https://h", "https://h/a/", "https://u:p@h/a", "ftp://h/a"};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        pg_source s;
        pg_err e = {0};
        assert_int_equal(pg_source_parse(&s, t[i][0], &e), PG_OK);
        same(s.box, t[i][1]);
        same(s.version, t[i][2]);
        same(s.file, t[i][3]);
        pg_source_free(&s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pg_source s;
        pg_err e = {0};
        if (!pg_source_parse(&s, bad[i], &e)) fail_msg("'%s' is taken", bad[i]);
        assert_null(strstr(e.msg, "u:p"));
    }
}

static void beside(void **state)
{
    (void)state;
    static const char *const t[][3] = {{"gs://b/d/x.jsonl", "1.jpeg", "gs://b/d/1.jpeg"},
                                       {"gs://b/d/x.jsonl", "gs://c/1.jpeg", "gs://c/1.jpeg"},
                                       {"https://h/d/x.jsonl?sig=a/b", "p q.png", "https://h/d/p%20q.png"},
                                       {"hf://o/r/d/x.jsonl", "i/1.jpg", "hf://o/r/d/i/1.jpg"},
                                       {"hf://o/r/x.jsonl@v", "1.jpg", "hf://o/r/1.jpg@v"},
                                       {"hf://o/r@v/x.jsonl", "1.jpg", "hf://o/r@v/1.jpg"},
                                       {"hf://datasets/o/s/x.jsonl", "i/1.jpg", "hf://datasets/o/s/i/1.jpg"},
                                       {"hf://datasets/o/s/x.jsonl@v", "1.jpg", "hf://datasets/o/s/1.jpg@v"},
                                       {"hf://datasets/o/s@v/x.jsonl", "1.jpg", "hf://datasets/o/s@v/1.jpg"},
                                       {"kaggle://o/m/f/v/1/x.jsonl", "/etc/passwd", "kaggle://o/m/f/v/1//etc/passwd"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char *s = pg_source_beside(t[i][0], t[i][1]);
        assert_string_equal(s, t[i][2]);
        free(s);
    }
}

/* Names as a list, those left after the selection, or NULL for an error. */
static void selected(const char *const *in, const char *want)
{
    pg_items l = {0};
    pg_err e = {0};
    char got[400] = "";
    while (in[l.n]) l.n++;
    l.at = calloc(l.n, sizeof *l.at);
    assert_non_null(l.at);
    for (size_t i = 0; i < l.n; i++) l.at[i] = (pg_item){.name = pg_strdup(in[i]), .t = PG_TRANSFER_INIT};
    int rc = pg_select_model(&l, "s", &e);
    for (size_t i = 0; i < l.n; i++)
        if (!l.at[i].skip) strcat(strcat(got, l.at[i].name), " ");
    pg_items_free(&l);
    if (!want) assert_int_not_equal(rc, PG_OK);
    else assert_string_equal(got, want);
}

static void selection(void **state)
{
    (void)state;
    selected((const char *const[]){"m.b16.npz", "m.f16.npz", "m.npz", "README.md", NULL}, "m.f16.npz ");
    selected((const char *const[]){"m.npz", "m.b16.npz", "tokenizer.model", NULL}, "m.b16.npz tokenizer.model ");
    selected((const char *const[]){"m.npz", NULL}, "m.npz ");
    selected((const char *const[]){"m.npz", "n.f16.npz", NULL}, NULL);
    selected((const char *const[]){"config.json", "model.safetensors", "model.fp16.safetensors", "flax.msgpack", NULL}, "config.json model.safetensors ");
    selected((const char *const[]){"model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json", "x/model-1-of-2.safetensors", "tokenizer.json", NULL},
             "model-1-of-2.safetensors model-2-of-2.safetensors model.safetensors.index.json ");
    selected((const char *const[]){"1.jpeg", "data.jsonl", NULL}, "1.jpeg data.jsonl ");
}

static char *temp_dir(void)
{
    char *dir = pg_strdup("/tmp/pg-net-XXXXXX");
    assert_non_null(dir);
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void parts(void **state)
{
    (void)state;
    char *dir = temp_dir(), *path = pg_path_join(dir, "sub/x.bin"), *beside_it = pg_format("%s.part.json", path);
    pg_part p, q;
    pg_err e = {0};
    pg_sums got;
    const pg_origin from = {.source = (char *)(uintptr_t)"s", .etag = (char *)(uintptr_t)"e", .size = 6};
    assert_int_equal(pg_part_open(&p, path, &e), 1);
    assert_int_equal(pg_part_open(&q, path, &e), 0); /* flock keeps out a second descriptor of this process, too */
    assert_int_equal(pg_part_begin(&p, &from, &e), PG_OK);
    assert_int_equal(pg_part_write(&p, "foo", 3, &e), PG_OK);
    pg_part_close(&p, false);
    assert_false(pg_is_file(path));
    assert_int_equal(pg_part_open(&p, path, &e), 1);
    assert_int_equal(p.have, 3);
    assert_true(pg_origin_same(&p.from, &from));
    assert_int_equal(pg_part_hash(&p, PG_SUM_MD5 | PG_SUM_GIT, &e), PG_OK);
    assert_int_equal(pg_part_write(&p, "bar", 3, &e), PG_OK);
    assert_int_equal(pg_part_sums(&p, &got, &e), 1);
    pg_sums want;
    assert_int_equal(pg_hash_bytes("foobar", 6, PG_SUM_MD5 | PG_SUM_GIT, &want, &e), PG_OK);
    assert_int_equal(got.have, want.have);
    assert_int_equal(pg_sums_differ(&got, &want), 0);
    assert_int_equal(pg_part_commit(&p, &e), PG_OK);
    pg_buf b = {0};
    assert_int_equal(pg_file_read(path, 100, &b, &e), PG_OK);
    assert_memory_equal(b.data, "foobar", 6);
    assert_false(pg_is_file(beside_it));
    pg_buf_free(&b);
    unlink(path);
    free(beside_it);
    beside_it = pg_path_dir(path);
    assert_int_equal(rmdir(beside_it), 0); /* nothing else is there */
    rmdir(dir);
    free(beside_it);
    free(path);
    free(dir);
}

static void best_sum(void **state)
{
    (void)state;
    assert_int_equal(pg_sum_best(0), 0);
    assert_int_equal(pg_sum_best(PG_SUM_CRC32C), PG_SUM_CRC32C);
    assert_int_equal(pg_sum_best(PG_SUM_CRC32C | PG_SUM_MD5), PG_SUM_MD5);
    assert_int_equal(pg_sum_best(15), PG_SUM_SHA256);
}

static void origins(void **state)
{
    (void)state;
    char a[] = "a", b[] = "b";
    const pg_origin none = {.size = 5}, x = {.etag = a, .size = 5}, y = {.etag = b, .size = 5}, g = {.generation = a, .size = 5}, longer = {.etag = a, .size = 6};
    assert_false(pg_origin_same(&none, &none)); /* nothing says that they are */
    assert_true(pg_origin_same(&x, &x));
    assert_false(pg_origin_same(&x, &y));
    assert_false(pg_origin_same(&x, &g));
    assert_false(pg_origin_same(&x, &longer));
}

/* A large file is hashed by a thread behind the writer. */
static void follower(void **state)
{
    (void)state;
    enum { CHUNK = 100003, N = 60 };
    char *dir = temp_dir(), *path = pg_path_join(dir, "big");
    unsigned char *chunk = malloc(CHUNK);
    pg_part p;
    pg_err e = {0};
    pg_sums got = {0}, want;
    int rc = 0;
    assert_non_null(chunk);
    assert_int_equal(pg_part_open(&p, path, &e), 1);
    assert_int_equal(pg_part_begin(&p, &(pg_origin){.source = path, .size = (uint64_t)CHUNK * N}, &e), PG_OK);
    assert_int_equal(pg_part_hash(&p, 15, &e), PG_OK);
    for (int i = 0; i < N; i++) {
        memset(chunk, i, CHUNK);
        assert_int_equal(pg_part_write(&p, chunk, CHUNK, &e), PG_OK);
    }
    while ((rc = pg_part_sums(&p, &got, &e)) == 0) usleep(1000);
    assert_int_equal(rc, 1);
    assert_int_equal(pg_part_commit(&p, &e), PG_OK);
    assert_int_equal(pg_hash_file(path, 15, &want, &e), PG_OK);
    assert_int_equal(got.have, 15);
    assert_int_equal(pg_sums_differ(&got, &want), 0);
    unlink(path);
    rmdir(dir);
    free(chunk);
    free(path);
    free(dir);
}

/* Answers one request with `chunks` times 1000 bytes whose number is not announced; returns the port. */
static unsigned chunked_server(int chunks)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s >= 0 && !bind(s, (struct sockaddr *)&a, n) && !listen(s, 1) && !getsockname(s, (struct sockaddr *)&a, &n));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        signal(SIGPIPE, SIG_IGN);
        int f = accept(s, NULL, NULL);
        char c = 0;
        for (int blank = 0; blank < 2 && read(f, &c, 1) == 1;) blank = c == '\n' ? blank + 1 : c == '\r' ? blank : 0;
        dprintf(f, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < chunks; i++) dprintf(f, "3e8\r\n%01000d\r\n", i);
        dprintf(f, "0\r\n\r\n");
        close(f);
        _exit(0);
    }
    close(s);
    return ntohs(a.sin_port);
}

/* A body without a length is stopped where the file would grow above its limit. */
static void most(void **state)
{
    (void)state;
    const pg_net_options o = {.tries = 1};
    char *dir = temp_dir();
    pg_net *net = NULL;
    pg_err e = {0};
    unsetenv("http_proxy");
    assert_int_equal(pg_net_new(&net, &o, &e), PG_OK);
    for (int chunks = 3; chunks <= 4; chunks++) {
        pg_transfer t = PG_TRANSFER_INIT;
        t.url = pg_format("http://127.0.0.1:%u/x.bin", chunked_server(chunks));
        t.source = pg_strdup("x");
        t.path = pg_path_join(dir, "x.bin");
        t.most = 3000;
        int rc = pg_net_fetch(net, &t, &e);
        assert_int_equal(rc, chunks == 3 ? PG_OK : PG_ELIMIT);
        assert_int_equal(pg_is_file(t.path), chunks == 3);
        unlink(t.path);
        pg_transfer_free(&t);
        wait(NULL);
    }
    pg_net_free(net);
    assert_int_equal(rmdir(dir), 0); /* no part is left */
    free(dir);
}

static void google_token(void **state)
{
    (void)state;
    pg_auth a;
    pg_err e = {0};
    unsetenv("STORAGE_EMULATOR_HOST");
    setenv("GOOGLE_OAUTH_ACCESS_TOKEN", " ya29 \n", 1);
    assert_int_equal(pg_auth_find(&a, PG_HOST_STORAGE, NULL, &e), PG_OK);
    assert_int_equal(a.kind, PG_AUTH_BEARER);
    assert_string_equal(a.secret, "ya29");
    pg_auth_free(&a);
    setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1", 1); /* implies anonymous */
    assert_int_equal(pg_auth_find(&a, PG_HOST_STORAGE, NULL, &e), PG_OK);
    assert_int_equal(a.kind, PG_AUTH_NONE);
    unsetenv("GOOGLE_OAUTH_ACCESS_TOKEN");
    unsetenv("STORAGE_EMULATOR_HOST");
    static const char *const t[][3] = {{"KAGGLE_API_ENDPOINT", "http://h:1/api/v1/", "http://h:1"}, {"HF_ENDPOINT", "https://h/", "https://h"},
                                       {"STORAGE_EMULATOR_HOST", "localhost:9", "http://localhost:9"}};
    static const pg_host hosts[] = {PG_HOST_KAGGLE, PG_HOST_HUB, PG_HOST_STORAGE};
    for (size_t i = 0; i < 3; i++) {
        setenv(t[i][0], t[i][1], 1);
        char *s = pg_endpoint(hosts[i]);
        assert_string_equal(s, t[i][2]);
        free(s);
        unsetenv(t[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums),    cmocka_unit_test(crc_agrees), cmocka_unit_test(malformed_sums), cmocka_unit_test(url_text),
                                       cmocka_unit_test(names),   cmocka_unit_test(sources),    cmocka_unit_test(beside),         cmocka_unit_test(selection),
                                       cmocka_unit_test(parts),   cmocka_unit_test(origins),    cmocka_unit_test(follower),       cmocka_unit_test(google_token),
                                       cmocka_unit_test(best_sum),  cmocka_unit_test(most)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
