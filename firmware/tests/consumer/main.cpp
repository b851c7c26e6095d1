#include <pkecho.h>
#include <pkecho_backend.h>

#include <cstdio>

int main() {
    pkecho_result result;
    pkecho_result_default(&result);
    std::printf("%d %d\n", result.struct_size == sizeof result, PKECHO_BACKEND_ABI);
    return 0;
}
