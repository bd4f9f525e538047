
; Behind calls.ll, whose functions it calls: the same for elements that lie at given addresses, of inputs,
; then of results, all with the shapes and types that the block is for (addresses.py fills it: the words
; of calls.ll from 2 to 9, where 9 counts all addresses, 16 and 17; then for each address the bits that
; it must not have). Returns what the code does, 0 where all went well, or NOT_READY where it did not run:
; another call is in the kernel's own scratch, or an address is 0, as that of a tensor without memory.
declare i64 @loopgrad_python_PyLong_FromLongLong(i64)

define i64 @loopgrad_by_address(i64 %entry, i64 %given, i64 %positional, i64 %names) {
BEGIN:
  %fits.not = alloca i32
  %arrays = alloca i64, i64 MOST_ARRAYS, align 16
  %words = mul i64 MOST_ARRAYS, 3
  %objects = alloca i64, i64 %words, align 16
  %record = alloca i64, i64 MOST_RECORD, align 16
  %a = ptrtoint i64* %arrays to i64
  %o = ptrtoint i64* %objects to i64
  %r = ptrtoint i64* %record to i64
  %block = call i64 @block(i64 %entry)
  %in.use = call i64 @word(i64 %block, i64 2)
  %count = call i64 @word(i64 %block, i64 9)
  %masks = add i64 %block, HEAD_BYTES
  %all = icmp eq i64 %count, %positional
  br i1 %all, label %NEXT, label %NOT.READY

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %PLACE ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %ADDRESS, label %SCRATCH

ADDRESS:
  %after = add i64 %i, 1
  %number = call i64 @word(i64 %given, i64 %i)
  %address = call i64 @loopgrad_python_PyLong_AsLongLongAndOverflow(i64 %number, i32* %fits.not)
  %overflow = load i32, i32* %fits.not
  %mask = call i64 @word(i64 %masks, i64 %i)
  %wrong.bits = and i64 %address, %mask
  %aligned = icmp eq i64 %wrong.bits, 0
  %small = icmp eq i32 %overflow, 0
  %lies = icmp ne i64 %address, 0
  %aligned.small = and i1 %aligned, %small
  %usual = and i1 %aligned.small, %lies
  br i1 %usual, label %PLACE, label %NOT.READY

PLACE:
  %offset = mul i64 %i, 24
  %object = add i64 %o, %offset
  call void @set(i64 %object, i64 2, i64 %address)
  call void @set(i64 %a, i64 %i, i64 %object)
  br label %NEXT

SCRATCH:
  %own = call i64 @word(i64 %block, i64 7)
  %maker = call i64 @word(i64 %block, i64 17)
  %is.own = icmp eq i64 %maker, 0
  br i1 %is.own, label %OWN, label %TAKE

OWN:  ; no other thread comes between the look and the mark: neither calls Python
  %used = call i64 @word(i64 %in.use, i64 0)
  %unused = icmp eq i64 %used, 0
  br i1 %unused, label %MARK, label %NOT.READY

MARK:
  call void @set(i64 %in.use, i64 0, i64 1)
  br label %RUN

TAKE:
  %memory = call i64 @made_by(i64 %block, i64 %maker)
  %is.taken = icmp ne i64 %memory, 0
  br i1 %is.taken, label %TAKEN, label %FAILED

TAKEN:
  %taken = call i64 @word(i64 %memory, i64 2)
  br label %RUN

FAILED:
  %raised = call i64 @loopgrad_python_PyErr_Occurred()
  %is.raised = icmp ne i64 %raised, 0
  br i1 %is.raised, label %RAISE, label %NOT.READY

RAISE:
  ret i64 0

RUN:
  %scratch = phi i64 [ %own, %MARK ], [ %taken, %TAKEN ]
  %lent = phi i64 [ 0, %MARK ], [ %memory, %TAKEN ]
  call void @loopgrad_python_Py_IncRef(i64 %entry)
  call void @set(i64 %r, i64 0, i64 0)
  call void @set(i64 %r, i64 1, i64 0)
  %failed = call i32 @run(i64 %block, i64 %a, i64 %r, i64 %scratch)
  call void @loopgrad_python_Py_DecRef(i64 %entry)
  %is.lent = icmp ne i64 %lent, 0
  br i1 %is.lent, label %GIVE, label %UNMARK

UNMARK:
  call void @set(i64 %in.use, i64 0, i64 0)
  br label %DONE

GIVE:
  call void @loopgrad_python_Py_DecRef(i64 %lent)
  br label %DONE

DONE:
  %whole = sext i32 %failed to i64
  %answer = call i64 @loopgrad_python_PyLong_FromLongLong(i64 %whole)
  ret i64 %answer

NOT.READY:
  %not.ready = call i64 @loopgrad_python_PyLong_FromLongLong(i64 NOT_READY)
  ret i64 %not.ready
}
