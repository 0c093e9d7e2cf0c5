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

/* A link leads to where the temporary files are. */
static void behind_a_link(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("disk"), 0700), 0);
    assert_int_equal(symlink("disk/real.npz", at("link.npz")), 0);
    close(make_file("disk/real.npz.tmp.abcdef"));
    assert_int_equal(pg_temp_sweep(at("link.npz")), 1);
    assert_false(is_there("disk/real.npz.tmp.abcdef"));
}

/* One who may write to the same folder has put a link in the place of a file in ours, and a link in the place of a folder. */
static void links_are_not_followed(void **state)
{
    char folder[200];
    (void)state;
    assert_int_equal(mkdir(at("precious"), 0700), 0);
    close(make_file("precious/file"));
    assert_int_equal(mkdir(at("out.npz.tmp.folder"), 0700), 0);
    snprintf(folder, sizeof folder, "%s", at("precious"));
    assert_int_equal(symlink(folder, at("out.npz.tmp.folder/a")), 0);
    assert_int_equal(symlink(folder, at("out.npz.tmp.asfold")), 0);
    assert_int_equal(pg_temp_sweep(at("out.npz")), 1);
    assert_false(is_there("out.npz.tmp.folder"));
    assert_true(is_there("precious/file"));
}

/* A file that another user has made is that user's, whoever runs the sweep. */
static void others_files_stay(void **state)
{
    (void)state;
    if (geteuid()) skip(); /* only root can give files away */
    close(make_file("out.npz.tmp.theirs"));
    assert_int_equal(chown(at("out.npz.tmp.theirs"), 1, 1), 0);
    assert_int_equal(pg_temp_sweep(at("out.npz")), 0);
    assert_true(is_there("out.npz.tmp.theirs"));
}

/* A sweep between making a file and locking it: the maker is told. */
static void removed_before_it_was_locked(void **state)
{
    (void)state;
    int fd = make_file("out.npz.tmp.race01");
    assert_int_equal(pg_temp_sweep(at("out.npz")), 1);
    assert_int_equal(pg_temp_lock(fd), -1);
    close(fd);
    /* It has its lock and is about to remove it. */
    fd = make_file("out.npz.tmp.race02");
    int sweep = open(at("out.npz.tmp.race02"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(pg_temp_lock(sweep), 0);
    assert_int_equal(pg_temp_lock(fd), -1);
    close(sweep);
    close(fd);
}

/* What is written to a link, even one that leads to nothing yet, lies where it leads; one that leads in a circle is no place. */
static void a_link_stays_a_link(void **state)
{
    struct stat st;
    pg_err e;
    (void)state;
    assert_int_equal(mkdir(at("far"), 0700), 0);
    assert_int_equal(symlink("second", at("first")), 0);
    assert_int_equal(symlink("far/file", at("second")), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pg_file_save(at("first"), "x", 1, &e), PG_OK);
        assert_int_equal(lstat(at("first"), &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(lstat(at("far/file"), &st), 0);
        assert_true(S_ISREG(st.st_mode));
    }
    assert_int_equal(symlink("circle", at("circle")), 0);
    assert_int_equal(pg_file_save(at("circle"), "x", 1, &e), PG_EIO);
    assert_int_equal(lstat(at("circle"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

/* Under its own name a folder keeps its files; one that cannot have that name is gone with them. */
static void a_folder_gets_its_name(void **state)
{
    pg_temp_folder d;
    pg_err e;
    char inside[300];
    struct stat st;
    (void)state;
    mode_t mask = umask(027);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pg_temp_folder_make(&d, at("named"), &e), PG_OK);
        assert_int_equal(pg_temp_sweep(at("named")), 0); /* it is in use */
        snprintf(inside, sizeof inside, "%s/file", d.path);
        assert_int_equal(pg_file_save(inside, "x", 1, &e), PG_OK);
        snprintf(inside, sizeof inside, "%s", d.path);
        if (i == 0) assert_int_equal(pg_temp_folder_rename(&d, at("named"), &e), PG_OK);
        else assert_int_equal(pg_temp_folder_rename(&d, at("named"), &e), PG_EIO); /* there, and not empty */
        assert_int_not_equal(access(inside, F_OK), 0);
        assert_null(d.path);
        pg_temp_folder_remove(&d);
        assert_true(is_there("named/file"));
    }
    umask(mask);
    assert_int_equal(stat(at("named"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_dead_are_removed), cmocka_unit_test(behind_a_link), cmocka_unit_test(links_are_not_followed),
                                       cmocka_unit_test(others_files_stay), cmocka_unit_test(removed_before_it_was_locked), cmocka_unit_test(a_link_stays_a_link),
                                       cmocka_unit_test(a_folder_gets_its_name)};
    return cmocka_run_group_tests(tests, NULL, remove_dir);
}
