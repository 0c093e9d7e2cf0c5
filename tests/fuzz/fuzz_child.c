/* pg-serve: what records of the command that it runs, which may be anybody's, say about three pictures, and the answers made of them. */
#include <string.h>

#include "fuzz.h"
#include "serve.h"

enum { JOBS = 3 };

static bool good(const char *text) { return text && pg_utf8_valid(text, strlen(text)); }

static void look(const job *j)
{
    pg_buf b = {0};
    pg_err e = {0};
    if (j->partial) FUZZ_CHECK(good(j->partial) && !answer_event("partial", j, 0, false, &b, &e));
    if (j->state == JOB_DONE) {
        FUZZ_CHECK(good(j->text) && (j->status == 200) == !j->code);
        if (j->code) FUZZ_CHECK(!answer_error(j->code, j->text, j->id, &b, &e) && !answer_event("error", j, 0, false, &b, &e));
        else FUZZ_CHECK(!answer_json(j, &b, &e) && !answer_event("caption", j, 0, false, &b, &e));
        FUZZ_CHECK(!(j->code ? answer_html_error(j->status, j->text, &b, &e) : answer_html(j, &b, &e)));
    }
    pg_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char it;
    child *c = (child *)(void *)&it; /* a name alone: its inside is serve_child.c's */
    server s = {.o = {.queue = JOBS}, .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};
    job *jobs[JOBS];
    pg_rec *r = pg_rec_new();
    FUZZ_CHECK(r);
    for (size_t i = 0; i < JOBS; i++) {
        FUZZ_CHECK((jobs[i] = job_new()) && !job_admit(&s, jobs[i]));
        jobs[i]->state = i == 2 ? JOB_WAITING : JOB_SENT;
        jobs[i]->child = i == 2 ? NULL : c;
    }
    while (fuzz_next_record(r, &data, &size)) {
        size_t before = s.n_jobs;
        uint64_t captions = s.n.captions;
        bool answered = take_record(&s, c, r);
        FUZZ_CHECK(s.n_jobs == before - answered && !(pg_rec_has_error(r) && s.n.captions > captions));
        for (size_t i = 0; i < JOBS; i++) look(jobs[i]);
    }
    FUZZ_CHECK(jobs[2]->state == JOB_WAITING && !jobs[2]->partial && s.first); /* the command has never seen it */
    jobs_fail(&s, c, 502, "command_died", "it died");
    jobs_fail(&s, NULL, 503, "no_command", "there is none");
    FUZZ_CHECK(!s.first && !s.n_jobs);
    for (size_t i = 0; i < JOBS; i++) {
        FUZZ_CHECK(jobs[i]->refs == 1);
        job_unref(&s, jobs[i]);
    }
    pg_rec_free(r);
    return 0;
}
