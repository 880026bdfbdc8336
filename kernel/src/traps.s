# Entries of exceptions and interrupts, each on a stack of its own (IST), as the host's target has a
# red zone below the stack pointer. All registers are saved, then a handler in Rust is called with
# a pointer to them.

.section .text.traps, "ax", @progbits
.code64
.macro STUB name, handler, code
.global \name
\name:
    .if \code == 0
    push $0
    .endif
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    mov %rsp, %rbp
    sub $512, %rsp
    and $-16, %rsp
    fxsave (%rsp)
    cld
    call \handler
    fxrstor (%rsp)
    mov %rbp, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $8, %rsp
    iretq
.endm
STUB page_fault_stub, page_fault, 1
STUB general_protection_stub, general_protection, 1
STUB double_fault_stub, double_fault, 1
STUB invalid_opcode_stub, invalid_opcode, 0
STUB shootdown_stub, shootdown_interrupt, 0
STUB wake_stub, wake_interrupt, 0
STUB system_call_stub, system_call, 0

# Accesses that may fault: the handler of a fault between the two labels goes on at `probe_faulted`.
# probe_read(address, *value), probe_read_half(address, *value) of 32 bits, probe_write(address,
# value): 0 done, 1 the fault was refused.
.global probe_read
.global probe_read_half
.global probe_write
.global probe_begin
.global probe_end
.global probe_faulted
probe_begin:
probe_read:
    mov (%rdi), %rax
    mov %rax, (%rsi)
    xor %eax, %eax
    ret
probe_read_half:
    mov (%rdi), %eax
    mov %eax, (%rsi)
    xor %eax, %eax
    ret
probe_write:
    mov %rsi, (%rdi)
    xor %eax, %eax
    ret
probe_end:
probe_faulted:
    mov $1, %eax
    ret

# enter_user(rip, rsp, *saved, rdi): runs a program in ring 3, with interrupts on. Returns what
# leave_user(saved, value) is given.
.global enter_user
.global leave_user
enter_user:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdx)
    push $0x23                   # ss: user data
    push %rsi
    push $0x202                  # interrupts on
    push $0x2b                   # cs: user code
    push %rdi
    mov %rcx, %rdi
    iretq
leave_user:
    mov %rdi, %rsp
    mov %rsi, %rax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
