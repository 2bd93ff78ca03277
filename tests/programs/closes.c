/* closes.c: a plugin host's way with a plugin that lacks a function: the message is the program's until the next error.
   Prints the same whether it is traced or not; built with -static, too. */

#include "traced.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Texts of many lengths lie in many places: no block hides what became of another. */
static int close_one(int round)
{
    char name[2100];
    memset(name, 'x', sizeof name);
    name[2000 - 100 * round] = '\0';
    void *module = dlopen("libm.so.6", RTLD_NOW);
    if (!module)
        return -1;
    if (!dlsym(module, name))
        (void)dlerror();
    return dlclose(module);
}

int main(void)
{
    int status = close_one(0);
    size_t before = traced_now();
    for (int round = 1; round < 12; round++)
        status |= close_one(round);
    /* libc frees the text of one error at the next. */
    printf("%d %d\n", status, traced_now() > before + 5000);
    return 0;
}
