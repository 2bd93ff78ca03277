/* hard_unloads.c: modules that go unseen: closed in another namespace, or unloaded by libc itself. Whether the table of
   unloaded modules has them. Argument: a build of hard_module.c. Prints the same whether it is traced or not. */

#define _GNU_SOURCE
#include "layout.h"
#include "traced.h"

#include <dlfcn.h>
#include <iconv.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct tm_layout tm_layout __attribute__((weak));

/* How often the table has a module whose path ends so. */
static int in_table(const char *tail)
{
    int found = 0;
    for (uint32_t i = 0; i < tm_layout.state->module_count; i++) {
        const char *path = tm_layout.state->modules[i].path;
        size_t length = strlen(path);
        found += length >= strlen(tail) && strcmp(path + length - strlen(tail), tail) == 0;
    }
    return found;
}

static void expect(const char *tail, bool is_there)
{
    if (is_traced() && (in_table(tail) > 0) != is_there)
        printf("%s is %sin the table\n", tail, is_there ? "not " : "");
}

static int is_named(struct dl_phdr_info *info, size_t size, void *part)
{
    (void)size;
    return strstr(info->dlpi_name, part) != NULL;
}

static bool is_loaded(const char *part)
{
    return dl_iterate_phdr(is_named, (void *)part) != 0;
}

static void convert(const char *from)
{
    char text[] = "abcd", to[100], *in = text, *out = to;
    size_t left = 4, room = sizeof to;
    iconv_t open = iconv_open("UTF-8", from);
    if (open == (iconv_t)-1)
        return;
    iconv(open, &in, &left, &out, &room);
    iconv_close(open);
}

/* Code that no walk has come by yet. */
static __attribute__((noinline)) void allocate_anew(void)
{
    void *volatile block = malloc(10);
    free(block);
}

static void unloaded_by_libc(void)
{
    convert("EUC-JP");
    bool was_there = is_loaded("EUC-JP");
    expect("/EUC-JP.so", false);
    for (int i = 0; i < 100 && is_loaded("EUC-JP"); i++) {
        convert("KOI8-R");
        convert("IBM850");
        convert("ISO-8859-7");
    }
    allocate_anew();
    if (was_there && !is_loaded("EUC-JP"))
        expect("/EUC-JP.so", true);
    puts("unloaded by libc");
}

static void closed_elsewhere(const char *path)
{
    void *module = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    void *other = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    if (!module || !other) {
        puts(dlerror());
        return;
    }
    const char *tail = strrchr(path, '/');
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(module, "module_allocate");
    make(100);
    dlclose(dlopen(path, RTLD_NOW));
    int before = is_traced() ? in_table(tail) : 0;
    dlclose(module);
    if (is_traced() && in_table(tail) != before + 1)
        printf("%d entries, then %d\n", before, in_table(tail));
    dlclose(other);
    if (is_traced() && in_table(tail) != before + 2)
        printf("%d entries, and at last %d\n", before, in_table(tail));
    if (is_traced() && in_table("libtracemalloc.so") > 0)
        puts("too much is in the table");
    puts("closed elsewhere");
}

static uint32_t entries;

static __attribute__((noinline)) void allocate_at_exit(void)
{
    void *volatile block = malloc(20);
    free(block);
}

/* The last of all: what runs its destructors at exit is not unloaded. */
__attribute__((destructor(101))) static void leave(void)
{
    allocate_at_exit();
    if (is_traced() && tm_layout.state->module_count != entries)
        printf("%u entries came at exit\n", tm_layout.state->module_count - entries);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    unloaded_by_libc();
    if (argc > 1)
        closed_elsewhere(argv[1]);
    entries = is_traced() ? tm_layout.state->module_count : 0;
    return 0;
}
