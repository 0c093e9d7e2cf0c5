/* The page's files, as they lie in tools/serve/, between serve_NAME and serve_NAME_end; a 0 follows each. */
#define ASSET(name, file)             \
        .globl  serve_##name;         \
        .globl  serve_##name##_end;   \
serve_##name:                         \
        .incbin file;                 \
serve_##name##_end:                   \
        .byte   0

        .section .rodata
ASSET(index_html, "tools/serve/index.html")
ASSET(answer_html, "tools/serve/answer.html")
ASSET(page_css, "tools/serve/page.css")
ASSET(page_js, "tools/serve/page.js")
ASSET(icon_svg, "tools/serve/icon.svg")
ASSET(openapi_json, "tools/serve/openapi.json")

        .section .note.GNU-stack, "", %progbits
