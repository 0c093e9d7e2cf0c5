/* The report's style and script, as they lie in tools/render/, between render_NAME and render_NAME_end; a 0 follows each. */
#define ASSET(name, file)             \
        .globl  render_##name;        \
        .globl  render_##name##_end;  \
render_##name:                        \
        .incbin file;                 \
render_##name##_end:                  \
        .byte   0

        .section .rodata
ASSET(report_css, "tools/render/report.css")
ASSET(report_js, "tools/render/report.js")

        .section .note.GNU-stack, "", %progbits
