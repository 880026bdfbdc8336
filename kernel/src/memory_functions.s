# Memory functions, which the precompiled core of the host's target leaves to libc. In assembler, as
# a compiler makes a call of memcmp out of a loop that compares.

.section .text.mem, "ax", @progbits
.code64
.weak memcpy
memcpy:
    mov %rdi, %rax
    mov %rdx, %rcx
    rep movsb
    ret
.weak memmove
memmove:
    mov %rdi, %rax
    mov %rdx, %rcx
    cmp %rsi, %rdi
    jbe 1f
    lea (%rsi,%rdx), %r8
    cmp %r8, %rdi
    jae 1f
    std
    lea -1(%rdi,%rdx), %rdi
    lea -1(%rsi,%rdx), %rsi
    rep movsb
    cld
    ret
1:  rep movsb
    ret
.weak memset
memset:
    mov %rdi, %r8
    mov %esi, %eax
    mov %rdx, %rcx
    rep stosb
    mov %r8, %rax
    ret
.weak bcmp
bcmp:
.weak memcmp
memcmp:
    xor %ecx, %ecx
1:  cmp %rdx, %rcx
    je 2f
    movzbl (%rdi,%rcx), %eax
    movzbl (%rsi,%rcx), %r8d
    inc %rcx
    sub %r8d, %eax
    je 1b
    ret
2:  xor %eax, %eax
    ret
.weak strlen
strlen:
    xor %eax, %eax
1:  cmpb $0, (%rdi,%rax)
    je 2f
    inc %rax
    jmp 1b
2:  ret
