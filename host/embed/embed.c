/* Build tool: writes files as C arrays. Usage: embed OUT FILE|NAME=FILE... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int put_file(FILE *out, const char *name, int index)
{
    const char *path = strchr(name, '=') ? strchr(name, '=') + 1 : name;
    FILE *in = fopen(path, "rb");
    if (!in)
        return fail(path);
    fprintf(out, "static const unsigned char f%d[] = {", index);
    long n = 0;
    for (int c; (c = getc(in)) != EOF; n++)
        fprintf(out, "%s%d,", n % 20 == 0 ? "\n" : "", c);
    fprintf(out, "0};\n"); /* C has no empty arrays */
    int bad = ferror(in);
    fclose(in);
    return bad ? fail(path) : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: embed OUT FILE|NAME=FILE...\n");
        return 2;
    }
    FILE *out = fopen(argv[1], "wb");
    if (!out)
        return fail(argv[1]);
    fprintf(out, "#include \"embed/embed.h\"\n");
    for (int i = 2; i < argc; i++)
        if (put_file(out, argv[i], i) != 0) {
            fclose(out);
            remove(argv[1]);
            return 1;
        }
    fprintf(out, "const struct embed_file embed_files[] = {\n");
    for (int i = 2; i < argc; i++)
        fprintf(out, "{\"%.*s\", f%d, sizeof(f%d) - 1},\n",
                (int)strcspn(argv[i], "="), argv[i], i, i);
    fprintf(out, "{0, 0, 0}};\nconst size_t embed_count = %d;\n", argc - 2);
    if (fclose(out) != 0)
        return fail(argv[1]);
    return 0;
}
