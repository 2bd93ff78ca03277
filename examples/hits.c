/* hits.c: counts requests by client in access logs, one file after the other, and leaks on the way. The manual's
   tutorial finds out where.

   Usage: hits LOG...   Each line of a log is `CLIENT PATH BYTES`. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

struct client {
    struct client *next;
    char *name;
    unsigned requests;
    unsigned long bytes;
};

struct table {
    struct client *buckets[BUCKETS];
    unsigned clients;
};

struct request {
    char *client;
    char *path;
    unsigned long bytes;
};

static void *xmalloc(size_t size)
{
    void *block = malloc(size);
    if (!block) {
        fputs("hits: out of memory\n", stderr);
        exit(1);
    }
    return block;
}

static char *copy(const char *text, size_t length)
{
    char *new = xmalloc(length + 1);
    memcpy(new, text, length);
    new[length] = '\0';
    return new;
}

static void request_free(struct request *request)
{
    free(request->path);
    free(request);
}

/* The request that a line of the log tells of; NULL if it tells of none. */
static struct request *request_parse(const char *line)
{
    struct request *request = xmalloc(sizeof *request);
    size_t length = strcspn(line, " ");
    request->client = copy(line, length);
    line += length + (line[length] == ' ');
    length = strcspn(line, " ");
    request->path = copy(line, length);
    if (sscanf(line + length, "%lu", &request->bytes) != 1)
        return NULL;
    return request;
}

static unsigned hash(const char *text)
{
    unsigned sum = 5381;
    while (*text)
        sum = sum * 33 + (unsigned char)*text++;
    return sum % BUCKETS;
}

/* The entry of that name, made if there is none. The table owns NAME from now on. */
static struct client *table_entry(struct table *table, char *name)
{
    struct client **bucket = &table->buckets[hash(name)];
    for (struct client *client = *bucket; client; client = client->next)
        if (strcmp(client->name, name) == 0)
            return client;
    struct client *client = xmalloc(sizeof *client);
    *client = (struct client){.next = *bucket, .name = name};
    *bucket = client;
    table->clients++;
    return client;
}

static void count_request(struct table *table, const char *line)
{
    struct request *request = request_parse(line);
    if (!request)
        return;
    struct client *client = table_entry(table, request->client);
    client->requests++;
    client->bytes += request->bytes;
    request_free(request);
}

static void count_log(struct table *table, const char *filename)
{
    char line[512];
    FILE *log = fopen(filename, "r");
    if (!log) {
        perror(filename);
        exit(1);
    }
    while (fgets(line, sizeof line, log))
        count_request(table, line);
    fclose(log);
}

static void report(const struct table *table, const char *filename)
{
    unsigned long requests = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (const struct client *client = table->buckets[i]; client; client = client->next)
            requests += client->requests;
    printf("%s: %u clients, %lu requests so far\n", filename, table->clients, requests);
}

int main(int argc, char **argv)
{
    static struct table table;
    for (int i = 1; i < argc; i++) {
        count_log(&table, argv[i]);
        report(&table, argv[i]);
    }
    return 0;
}
