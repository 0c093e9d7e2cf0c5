/* Temporary files of processes that died are removed, those in use and those of others stay. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

static char dir[] = "/tmp/pg-sweep-XXXXXX";

static const char *at(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int make_file(const char *name)
{
    int fd = open(at(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static bool is_there(const char *name)
{
    struct stat st;
    return !lstat(at(name), &st);
}

static void the_dead_are_removed(void **state)
{
    (void)state;
    static const char *const others[] = {"out.npz", "out.npz.tmp.short", "out.npz.tmp.longer7", "out.npz.tmp.abc.ef", "other.tmp.abcdef", "out.npz.part"};
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) close(make_file(others[i]));
    close(make_file("out.npz.tmp.abcdef"));
    assert_int_equal(mkdir(at("out.npz.tmp.ghijkl"), 0700), 0);
    close(make_file("out.npz.tmp.ghijkl/config.json"));
    assert_int_equal(symlink("out.npz", at("out.npz.tmp.linked")), 0);
    int held = make_file("out.npz.tmp.inuse1");
    assert_int_equal(pg_temp_lock(held), 0);
    assert_int_equal(pg_temp_sweep(at("out.npz")), 2);
    assert_false(is_there("out.npz.tmp.abcdef"));
    assert_false(is_there("out.npz.tmp.ghijkl"));
    assert_true(is_there("out.npz.tmp.inuse1"));
    assert_true(is_there("out.npz.tmp.linked")); /* nothing of ours is a link */
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_true(is_there(others[i]));
    close(held); /* as the system does for a dead process */
    assert_int_equal(pg_temp_sweep(at("out.npz/")), 1);
    assert_false(is_there("out.npz.tmp.inuse1"));
    assert_int_equal(pg_temp_sweep(at("absent/out.npz")), 0);
}

/* A sweep between making a file and locking it: the maker is told. */
static void removed_before_it_was_locked(void **state)
{
    (void)state;
    int fd = make_file("out.npz.tmp.race01");
    assert_int_equal(pg_temp_sweep(at("out.npz")), 1);
    assert_int_equal(pg_temp_lock(fd), -1);
    close(fd);
}

static int remove_dir(void **state)
{
    char cmd[64];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_dead_are_removed), cmocka_unit_test(removed_before_it_was_locked)};
    return cmocka_run_group_tests(tests, NULL, remove_dir);
}
