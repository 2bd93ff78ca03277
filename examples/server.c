/* server.c: a small multi-threaded server with two memory problems, for the demo and for trying the commands.

   A front thread takes requests off an imagined wire, workers answer them. Two things grow:
     - requests that name no known user leak the reply that was begun for them (find it in reply_to);
     - the page cache is never trimmed (cache_page), which is no leak but grows all the same.
   Where memory runs out it simply crashes: a demo needs no more.
   `requests_served` is called after every 20,000 requests, once all of them are done with, so that a debugger has a
   place to stop at where each run finds the same. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 4
#define QUEUE_ROOM 64
#define BUCKETS 4096
#define ROUND 20000
#define ROUNDS 3

struct request {
    unsigned user;
    char path[48];
};

struct page {
    struct page *next;
    char *path;
    char *text;
};

struct reply {
    unsigned user;
    char *text;
};

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_changed = PTHREAD_COND_INITIALIZER;
static struct request *queue[QUEUE_ROOM];
static int queued, closed;
static unsigned served;

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct page *cache[BUCKETS];

struct reply *last_unsent; /* what the demo asks tm-traceback about */

static unsigned hash(const char *text)
{
    unsigned sum = 5381;
    while (*text)
        sum = sum * 33 + (unsigned char)*text++;
    return sum % BUCKETS;
}

static struct page *render_page(const char *path)
{
    struct page *page = malloc(sizeof *page);
    page->path = strdup(path);
    page->text = malloc(200 + strlen(path));
    sprintf(page->text, "<html><h1>%s</h1></html>", path);
    return page;
}

/* The page of PATH, rendered once and then kept for ever. */
static const struct page *cache_page(const char *path)
{
    unsigned bucket = hash(path);
    pthread_mutex_lock(&cache_lock);
    struct page *page = cache[bucket];
    while (page && strcmp(page->path, path) != 0)
        page = page->next;
    if (!page) {
        page = render_page(path);
        page->next = cache[bucket];
        cache[bucket] = page;
    }
    pthread_mutex_unlock(&cache_lock);
    return page;
}

static void send_reply(struct reply *reply)
{
    free(reply->text);
    free(reply);
}

static void reply_to(const struct request *request)
{
    struct reply *reply = malloc(sizeof *reply);
    reply->user = request->user;
    reply->text = malloc(120);
    if (request->user % 50 == 7) {
        last_unsent = reply;
        return;
    }
    snprintf(reply->text, 120, "to user %u: %s", request->user, cache_page(request->path)->text);
    send_reply(reply);
}

void requests_served(unsigned count);
__attribute__((noinline)) void requests_served(unsigned count)
{
    printf("%u requests served\n", count);
    fflush(stdout);
}

static struct request *take_request(void)
{
    struct request *request = NULL;
    pthread_mutex_lock(&queue_lock);
    while (queued == 0 && !closed)
        pthread_cond_wait(&queue_changed, &queue_lock);
    if (queued > 0)
        request = queue[--queued];
    pthread_cond_broadcast(&queue_changed);
    pthread_mutex_unlock(&queue_lock);
    return request;
}

static void put_request(struct request *request)
{
    pthread_mutex_lock(&queue_lock);
    while (queued == QUEUE_ROOM)
        pthread_cond_wait(&queue_changed, &queue_lock);
    queue[queued++] = request;
    pthread_cond_broadcast(&queue_changed);
    pthread_mutex_unlock(&queue_lock);
}

static void *work(void *unused)
{
    struct request *request;
    (void)unused;
    while ((request = take_request())) {
        reply_to(request);
        free(request);
        pthread_mutex_lock(&queue_lock);
        served++;
        pthread_cond_broadcast(&queue_changed);
        pthread_mutex_unlock(&queue_lock);
    }
    return NULL;
}

static void wait_until_served(unsigned count)
{
    pthread_mutex_lock(&queue_lock);
    while (served < count)
        pthread_cond_wait(&queue_changed, &queue_lock);
    pthread_mutex_unlock(&queue_lock);
}

static struct request *read_request(unsigned number)
{
    struct request *request = malloc(sizeof *request);
    request->user = number * 2654435761u >> 8;
    snprintf(request->path, sizeof request->path, "/articles/%u", number % 7 ? number % 500 : number);
    return request;
}

int main(void)
{
    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&workers[i], NULL, work, NULL);
    for (unsigned number = 1; number <= ROUND * ROUNDS; number++) {
        put_request(read_request(number));
        if (number % ROUND == 0) {
            wait_until_served(number);
            requests_served(number);
        }
    }
    pthread_mutex_lock(&queue_lock);
    closed = 1;
    pthread_cond_broadcast(&queue_changed);
    pthread_mutex_unlock(&queue_lock);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    return 0;
}
