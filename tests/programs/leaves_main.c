/* leaves_main.c: the main thread leaves by pthread_exit, the process ends with the other one. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *work(void *unused)
{
    usleep(100000);
    puts("done");
    return unused;
}

int main(void)
{
    static void *volatile kept;
    pthread_t thread;
    kept = malloc(1000);
    (void)kept;
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 1;
    pthread_detach(thread);
    pthread_exit(NULL);
}
