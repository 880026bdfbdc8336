# From the loader to Rust: PVH entry in 32-bit mode on the first CPU, real mode on the others. Both
# end in 64-bit mode on the same page table, in the upper half, on a stack of their own.

# The note by which a loader finds the entry (Xen's ABI for PVH guests, XEN_ELFNOTE_PHYS32_ENTRY).
.section .note.pvh, "a", @note
.align 4
.long 4, 4, 18
.asciz "Xen"
.long pvh_start

# CR4: PAE, PGE, OSFXSR, OSXMMEXCPT. CR0: PG, WP, NE, ET, MP, PE. WP, or ring 0 would write through
# leaves that allow reading only. EFER: LME, and NXE before any leaf says no-execute.
.set CR4_BITS, 0x6a0
.set CR0_BITS, 0x80010033
.set EFER, 0xc0000080
.set EFER_BITS, 0x900

.macro ENTER_LONG_MODE
    mov $CR4_BITS, %eax
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $EFER, %ecx
    rdmsr
    or $EFER_BITS, %eax
    wrmsr
    mov $CR0_BITS, %eax
    mov %eax, %cr0
.endm

.section .boot, "ax", @progbits
.code32
.global pvh_start
pvh_start:
    cli
    cld
    mov %ebx, pvh_info
    mov $boot_stack_top, %esp
    # Four page directories of 2 MiB leaves: the low 4 GiB.
    mov $boot_pd, %edi
    mov $0x83, %eax
    xor %edx, %edx
    mov $2048, %ecx
1:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    # The 2 MiB of the local APIC are not cached.
    mov $boot_pd, %edi
    orl $0x18, 8*0x7f7(%edi)
    mov $boot_pd, %eax
    or $3, %eax
    mov %eax, boot_pdpt
    add $0x1000, %eax
    mov %eax, boot_pdpt+8
    add $0x1000, %eax
    mov %eax, boot_pdpt+16
    add $0x1000, %eax
    mov %eax, boot_pdpt+24
    # The image: the last 2 GiB of the address space are the first of memory.
    mov $boot_pd, %eax
    or $3, %eax
    mov %eax, boot_pdpt_high+8*510
    # Entry 0 for the jump to the upper half, 256 for the direct map, 511 for the image.
    mov $boot_pdpt, %eax
    or $3, %eax
    mov %eax, boot_pml4
    mov %eax, boot_pml4+8*256
    mov $boot_pdpt_high, %eax
    or $3, %eax
    mov %eax, boot_pml4+8*511
    ENTER_LONG_MODE
    lgdt boot_gdtr
    ljmp $0x18, $boot64
.code64
boot64:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    xor %ax, %ax
    mov %ax, %fs
    mov %ax, %gs
    movabs $first_cpu_high, %rax
    jmp *%rax
.align 16
boot_gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    # 8: code, 32 bits
    .quad 0x00cf92000000ffff    # 0x10: data
    .quad 0x00af9a000000ffff    # 0x18: code, 64 bits
boot_gdtr:
    .word 31
    .quad boot_gdt
.align 8
pvh_info: .quad 0

.section .bootbss, "aw", @nobits
.align 4096
.global boot_pml4
.global boot_pdpt
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4096*4
.skip 4096
boot_stack_top:

.section .trampoline, "awx", @progbits
.code16
trampoline:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    lgdtl trampoline_gdtr
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $8, $trampoline32
.code32
trampoline32:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    ENTER_LONG_MODE
    ljmp $0x18, $trampoline64
.code64
trampoline64:
    movabs $next_cpu_high, %rax
    jmp *%rax
.align 16
trampoline_gdt:
    .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x00af9a000000ffff
trampoline_gdtr:
    .word 31
    .long trampoline_gdt

.section .text.boot, "ax", @progbits
.code64
first_cpu_high:
    lea cpu_stacks(%rip), %rsp
    add $0x10000, %rsp
    xor %ebp, %ebp
    mov pvh_info, %edi
    call first_cpu
    ud2
next_cpu_high:
    mov $1, %eax
    lock xaddl %eax, cpus_started(%rip)
    mov %eax, %edi                  # 1, 2, ...
    inc %eax
    shl $16, %rax
    lea cpu_stacks(%rip), %rsp
    add %rax, %rsp
    xor %ebp, %ebp
    call next_cpu
    ud2
