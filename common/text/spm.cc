extern "C" {
#include "base/mem.h"
}
#include "text/spm.h"

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <vector>

struct pg_spm {
    sentencepiece::SentencePieceProcessor sp;
};

namespace {

// Where memory runs out inside of SentencePiece, its protocol buffers stay half built, and destroying them crashes. So there is a reserve:
// `new`, when it fails, lets go of it and tries again; what was made with it is thrown away afterwards. The handler stays, which is
// as if there was none: without a reserve it throws what `new` throws.
thread_local void *reserve = nullptr;

void use_reserve()
{
    if (!reserve)
        throw std::bad_alloc();
    std::free(reserve);
    reserve = nullptr;
}

// Runs f with so many bytes in reserve and turns what it throws into an error.
template <typename F>
int guarded(size_t bytes, pg_err *e, F f) noexcept
{
    reserve = std::malloc(bytes);
    if (!reserve)
        return pg_error_nomem(e);
    std::set_new_handler(use_reserve);
    try {
        int rc = f();
        bool used = !reserve;
        std::free(reserve);
        reserve = nullptr;
        return rc == PG_OK && used ? pg_error_nomem(e) : rc;
    } catch (const std::bad_alloc &) {
        (void)pg_error_nomem(e);
    } catch (const std::exception &x) {
        (void)pg_error(e, PG_FAIL, "sentencepiece: %s", x.what());
    } catch (...) {
        (void)pg_error(e, PG_FAIL, "sentencepiece failed");
    }
    std::free(reserve);
    reserve = nullptr;
    return e && e->code ? e->code : PG_FAIL;
}

}  // namespace

extern "C" {

int pg_spm_load(pg_spm **s, const void *model, size_t n, pg_err *e)
{
    *s = nullptr;
    // A tokenizer of 4.3 MB takes some 70 MB while it is read. Memory that nobody touches costs nothing.
    int rc = guarded(((size_t)1 << 20) + 32 * n, e, [&] {
        pg_spm *t = new pg_spm;
        sentencepiece::util::Status st;
        try {
            st = t->sp.LoadFromSerializedProto(std::string(static_cast<const char *>(model), n));
        } catch (...) {
            delete t;
            throw;
        }
        if (!st.ok()) {
            delete t;
            return pg_error(e, PG_EFORMAT, "not a sentencepiece model");
        }
        *s = t;
        return static_cast<int>(PG_OK);
    });
    if (rc < 0) {
        delete *s;
        *s = nullptr;
    }
    return rc;
}

void pg_spm_free(pg_spm *s)
{
    delete s;
}

size_t pg_spm_size(const pg_spm *s)
{
    int n = s->sp.GetPieceSize();
    return n > 0 ? static_cast<size_t>(n) : 0;
}

void pg_spm_control_ids(const pg_spm *s, int *pad, int *eos, int *bos, int *unk)
{
    *pad = s->sp.pad_id();
    *eos = s->sp.eos_id();
    *bos = s->sp.bos_id();
    *unk = s->sp.unk_id();
}

const char *pg_spm_piece(const pg_spm *s, int id, size_t *len)
{
    try {
        const std::string &p = s->sp.IdToPiece(id);
        *len = p.size();
        return p.data();
    } catch (...) {
        return nullptr;
    }
}

enum pg_spm_kind pg_spm_kind(const pg_spm *s, int id)
{
    if (s->sp.IsByte(id))
        return PG_SPM_BYTE;
    if (s->sp.IsUnknown(id))
        return PG_SPM_UNKNOWN;
    return s->sp.IsControl(id) ? PG_SPM_CONTROL : PG_SPM_NORMAL;
}

int pg_spm_encode(const pg_spm *s, const char *text, size_t len, int32_t **ids, size_t *n, pg_err *e)
{
    *ids = nullptr;
    *n = 0;
    int rc = guarded(((size_t)1 << 16) + 64 * len, e, [&] {
        std::vector<int> v;
        auto st = s->sp.Encode(absl::string_view(text, len), &v);
        if (!st.ok())
            return pg_error(e, PG_FAIL, "sentencepiece cannot encode: %s", st.error_message());
        *ids = static_cast<int32_t *>(pg_alloc(v.size(), sizeof **ids));
        if (!*ids)
            return pg_error_nomem(e);
        for (size_t i = 0; i < v.size(); i++)
            (*ids)[i] = v[i];
        *n = v.size();
        return static_cast<int>(PG_OK);
    });
    if (rc < 0) {
        std::free(*ids);
        *ids = nullptr;
    }
    return rc;
}

}  // extern "C"
