/* hard_modules.c: modules opened and closed by the hundred, from threads, with RTLD_DEEPBIND and by dlmopen, and those
   that libc loads and unloads itself. Arguments: two builds of hard_module.c, with frames of different size. Prints the
   same whether it is traced or not. */

#define _GNU_SOURCE
#include "traced.h"

#include <dlfcn.h>
#include <iconv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *allocate_function(size_t size);
typedef void call_function(void (*call)(void *), void *argument);

static void allocate(void *block)
{
    *(void **)block = malloc(100);
    if (is_traced() && frames_of(*(void **)block) == 0)
        puts("a block is not known");
}

static void use(void *module, int is_ours)
{
    allocate_function *make = (allocate_function *)dlsym(module, "module_allocate");
    call_function *call = (call_function *)dlsym(module, "module_call");
    char *volatile made = make(50);
    void *block;
    call(allocate, &block);
    free(block);
    memset(made, 1, 50);
    /* What came from another namespace's libc must go back there; here it stays. */
    if (is_ours)
        free(made);
}

static void open_and_close(const char *path, int flags)
{
    void *module = dlopen(path, RTLD_NOW | flags);
    if (!module) {
        puts(dlerror());
        exit(1);
    }
    use(module, 1);
    if (dlclose(module) != 0)
        puts(dlerror());
}

static char **paths;

static void *open_and_close_often(void *unused)
{
    for (int i = 0; i < 150; i++)
        open_and_close(paths[i % 2], i % 3 == 0 ? RTLD_DEEPBIND : i % 3 == 1 ? RTLD_GLOBAL : RTLD_LOCAL);
    return unused;
}

static void namespaces(void)
{
    for (int i = 0; i < 30; i++) {
        void *module = dlmopen(LM_ID_NEWLM, paths[i % 2], RTLD_NOW);
        if (!module) {
            puts(dlerror());
            return;
        }
        use(module, 0);
        dlclose(module);
        if (i % 5 == 0)
            open_and_close(paths[i / 5 % 2], 0);
    }
    puts("dlmopen");
}

static void conversions(void)
{
    static const char *const names[] = {"UTF-16", "ISO-8859-7", "EUC-JP", "KOI8-R", "IBM850"};
    for (int i = 0; i < 50; i++) {
        iconv_t open = iconv_open("UTF-8", names[i % 5]);
        char from[] = "abcd", to[100], *in = from, *out = to;
        size_t left = 4, room = sizeof to;
        if (open != (iconv_t)-1) {
            iconv(open, &in, &left, &out, &room);
            iconv_close(open);
        }
        if (i % 10 == 0)
            open_and_close(paths[i / 10 % 2], 0);
    }
    puts("iconv");
}

int main(int argc, char **argv)
{
    pthread_t threads[4];
    (void)argc;
    setvbuf(stdout, NULL, _IONBF, 0);
    paths = argv + 1;
    open_and_close_often(NULL);
    puts("dlopen");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, open_and_close_often, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    puts("from threads");
    namespaces();
    conversions();
    return 0;
}
