/* BLIS: serial, one call per tile, from many threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wfloat-conversion"
#include <blis.h>
#pragma GCC diagnostic pop

#include "kernels/ops.h"

/* A CPU newer than BLIS gets its "generic" kernels, a fifth of the speed, unless told otherwise before the first use. In 0.9 the
 * variable holds the number of the architecture; a name would read as 0. Debian's BLIS for arm64 has one set of kernels, for NEON. */
void pg_blas_init(char *name, size_t len)
{
    const char *how = "";
    if (getenv("BLIS_ARCH_TYPE")) {
        how = " (BLIS_ARCH_TYPE)";
    } else {
#if defined(__x86_64__)
        if (bli_cpuid_query_id() == BLIS_ARCH_GENERIC) {
            int arch = -1;
            if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl"))
                arch = BLIS_ARCH_SKX;
            else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
                arch = BLIS_ARCH_HASWELL;
            char number[16];
            snprintf(number, sizeof number, "%d", arch);
            if (arch >= 0 && setenv("BLIS_ARCH_TYPE", number, 0) == 0) how = " (forced)";
        }
#endif
    }
    bli_init();
    snprintf(name, len, "BLIS %s, %s%s", bli_info_get_version_str(), bli_arch_string(bli_arch_query_id()), how);
}

void pg_blas_gemm(size_t M, size_t N, size_t K, const float *A, size_t rsa, size_t csa, const float *B, size_t rsb, size_t csb,
                  float beta, float *C, size_t ldc)
{
    rntm_t rntm;
    bli_rntm_init(&rntm);
    bli_rntm_set_num_threads(1, &rntm);
    bli_rntm_disable_l3_sup(&rntm); /* the kernels for unpacked operands read beyond their ends */
    float one = 1.0f;
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)M, (dim_t)N, (dim_t)K, &one, (float *)(uintptr_t)A, (inc_t)rsa,
                 (inc_t)csa, (float *)(uintptr_t)B, (inc_t)rsb, (inc_t)csb, &beta, C, (inc_t)ldc, 1, NULL, &rntm);
}
