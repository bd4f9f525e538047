; What Python calls: finds code for the arguments at hand, and runs it, without a line of Python.
;
; `loopgrad_call` and `loopgrad_run` become Python functions (calls.py) whose `self` is a list:
; [None, entry, entry, ...]. An entry is a tuple (block, token, ...) that owns all that its block
; points at; the block is an int64 array, of the words below (calls.py fills it). Where no entry fits
; the arguments, or its code fails, the answer is None, no exception is set, and nothing has happened.
; (An interrupt from the keyboard, while a result is made, is passed on.)
;
; Objects and addresses are i64 throughout; integers and pointers are passed alike.
;
; Word of a block             Words of an argument          Words of a result
;   0 positional arguments      0 type                        0 dtype
;   1 named arguments           1 name                        1 rank
;   2 address of `in use`       2 dtype, value, or length     2 extents..., or after dtype 0, rank 1
;   3 releases the GIL          3 kind: see @matches            a Python function that makes it
;   4 code                      4 place among the arrays
;   5 integers                  5 flags that it has to have
;   6 reals                     6 rank
;   7 scratch                   7 extents...
;   8 threads
;   9 inputs
;  10 results
;  11 where the words of the results begin
;  12 type of the results
;  13 whether there is an argument `out`, which is written
;  14 where the bytes of all arrays stand, a word for each: inputs, then results
;  15 address of the number of threads that the user wants now
;  16 Exception
;  17 a Python function that makes an array for scratch, 0 where scratch is the block's own
;  18 dtype of bytes
;  19 the arguments; behind a tuple what its items are like, as arguments

declare i64 @loopgrad_python_PyList_Size(i64)
declare i64 @loopgrad_python_PyList_GetItem(i64, i64)
declare i64 @loopgrad_python_PyTuple_New(i64)
declare i64 @loopgrad_python_PyTuple_Size(i64)
declare i64 @loopgrad_python_PyTuple_GetItem(i64, i64)
declare i32 @loopgrad_python_PyTuple_SetItem(i64, i64, i64)
declare i32 @loopgrad_python_PyUnicode_Compare(i64, i64)
declare i64 @loopgrad_python_PyLong_AsLongLongAndOverflow(i64, i32*)
declare i64 @loopgrad_python_PyObject_CallNoArgs(i64)
declare i64 @loopgrad_python_PyEval_SaveThread()
declare void @loopgrad_python_PyEval_RestoreThread(i64)
declare void @loopgrad_python_PyErr_Clear()
declare i64 @loopgrad_python_PyErr_Occurred()
declare i32 @loopgrad_python_PyErr_ExceptionMatches(i64)
declare void @loopgrad_python_Py_IncRef(i64)
declare void @loopgrad_python_Py_DecRef(i64)
declare i64 @loopgrad_python_PyArray_NewFromDescr(i64, i64, i32, i64, i64, i64, i32, i64)
declare i32 @loopgrad_python_PyArray_SetBaseObject(i64, i64)

define i64 @loopgrad_call(i64 %entries, i64 %given, i64 %positional, i64 %names) {
  %answer = call i64 @call(i64 %entries, i64 %given, i64 %positional, i64 %names, i1 false)
  ret i64 %answer
}

; The same with all that there is: always a tuple (token, input, ..., result, ...).
define i64 @loopgrad_run(i64 %entries, i64 %given, i64 %positional, i64 %names) {
  %answer = call i64 @call(i64 %entries, i64 %given, i64 %positional, i64 %names, i1 true)
  ret i64 %answer
}

define internal i64 @call(i64 %entries, i64 %given, i64 %positional, i64 %names, i1 %whole) {
BEGIN:
  %arrays = alloca i64, i64 MOST_ARRAYS, align 16
  %record = alloca i64, i64 MOST_RECORD, align 16
  %a = ptrtoint i64* %arrays to i64
  %r = ptrtoint i64* %record to i64
  %entry = call i64 @find(i64 %entries, i64 %given, i64 %positional, i64 %names, i64 %a)
  %found = icmp ne i64 %entry, 0
  br i1 %found, label %CHECK, label %NONE

CHECK:
  %block = call i64 @block(i64 %entry)
  %ready = call i1 @is_ready(i64 %block, i64 %a)
  br i1 %ready, label %PREPARE, label %NONE

PREPARE:
  %in.use = call i64 @word(i64 %block, i64 2)
  call void @set(i64 %in.use, i64 0, i64 1)
  call void @loopgrad_python_Py_IncRef(i64 %entry)
  %first = call i64 @word(i64 %block, i64 9)
  %count = call i64 @word(i64 %block, i64 10)
  %size = mul i64 %first, 8
  %results = add i64 %a, %size
  %made = call i64 @make_results(i64 %block, i64 %results)
  %all = icmp eq i64 %made, %count
  br i1 %all, label %SCRATCH, label %UNDO

SCRATCH:
  %own = call i64 @word(i64 %block, i64 7)
  %maker = call i64 @word(i64 %block, i64 17)
  %is.own = icmp eq i64 %maker, 0
  br i1 %is.own, label %RUN, label %TAKE

TAKE:
  %memory = call i64 @made_by(i64 %block, i64 %maker)
  %is.taken = icmp ne i64 %memory, 0
  br i1 %is.taken, label %TAKEN, label %UNDO

TAKEN:
  %taken = call i64 @word(i64 %memory, i64 2)
  br label %RUN

RUN:
  %scratch = phi i64 [ %own, %SCRATCH ], [ %taken, %TAKEN ]
  %lent = phi i64 [ 0, %SCRATCH ], [ %memory, %TAKEN ]
  call void @set(i64 %r, i64 0, i64 0)
  call void @set(i64 %r, i64 1, i64 0)
  %failed = call i32 @run(i64 %block, i64 %a, i64 %r, i64 %scratch)
  %is.lent = icmp ne i64 %lent, 0
  br i1 %is.lent, label %GIVE, label %HAS.RUN

GIVE:
  call void @loopgrad_python_Py_DecRef(i64 %lent)
  br label %HAS.RUN

HAS.RUN:
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %ANSWER, label %UNDO

ANSWER:
  %given.back = call i64 @answer(i64 %entry, i64 %a, i64 %first, i64 %count, i1 %whole)
  %is.answer = icmp ne i64 %given.back, 0
  br i1 %is.answer, label %DONE, label %UNDO

DONE:
  call void @set(i64 %in.use, i64 0, i64 0)
  call void @loopgrad_python_Py_DecRef(i64 %entry)
  ret i64 %given.back

UNDO:
  call void @release(i64 %results, i64 %made)
  call void @set(i64 %in.use, i64 0, i64 0)
  call void @loopgrad_python_Py_DecRef(i64 %entry)
  %raised = call i64 @loopgrad_python_PyErr_Occurred()
  %is.raised = icmp ne i64 %raised, 0
  br i1 %is.raised, label %RAISE, label %NONE

RAISE:
  ret i64 0

NONE:
  %nothing = call i64 @loopgrad_python_PyList_GetItem(i64 %entries, i64 0)
  call void @loopgrad_python_Py_IncRef(i64 %nothing)
  ret i64 %nothing
}

; The entry that fits the arguments, 0 for none. Fills the inputs' places among the arrays.
define internal i64 @find(i64 %entries, i64 %given, i64 %positional, i64 %names, i64 %arrays) {
BEGIN:
  %count = call i64 @loopgrad_python_PyList_Size(i64 %entries)
  %no.names = icmp eq i64 %names, 0
  br i1 %no.names, label %NEXT, label %WITH.NAMES

WITH.NAMES:
  %size = call i64 @loopgrad_python_PyTuple_Size(i64 %names)
  br label %NEXT

NEXT:
  %named = phi i64 [ 0, %BEGIN ], [ %size, %WITH.NAMES ], [ %named, %TRY ]
  %i = phi i64 [ 1, %BEGIN ], [ 1, %WITH.NAMES ], [ %after, %TRY ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %TRY, label %NONE

TRY:
  %after = add i64 %i, 1
  %entry = call i64 @loopgrad_python_PyList_GetItem(i64 %entries, i64 %i)
  %block = call i64 @block(i64 %entry)
  %fits = call i1 @matches(i64 %block, i64 %given, i64 %positional, i64 %named, i64 %names, i64 %arrays)
  br i1 %fits, label %FOUND, label %NEXT

FOUND:
  ret i64 %entry

NONE:
  ret i64 0
}

; Do the arguments and the number of threads fit the block? Kinds: 0 an array, 1 a float (by its
; bits), 2 an integer, 3 a tuple of arrays. Fills the places of the arrays.
define internal i1 @matches(i64 %block, i64 %given, i64 %positional, i64 %named, i64 %names, i64 %arrays) {
BEGIN:
  %fits.not = alloca i32
  %positional.wanted = call i64 @word(i64 %block, i64 0)
  %named.wanted = call i64 @word(i64 %block, i64 1)
  %same.positional = icmp eq i64 %positional, %positional.wanted
  %same.named = icmp eq i64 %named, %named.wanted
  %number = call i64 @word(i64 %block, i64 15)
  %threads.wanted = call i64 @word(i64 %number, i64 0)
  %threads = call i64 @word(i64 %block, i64 8)
  %same.threads = icmp eq i64 %threads, %threads.wanted
  %same.arguments = and i1 %same.positional, %same.named
  %same = and i1 %same.arguments, %same.threads
  %count = add i64 %positional, %named
  %start = add i64 %block, HEAD_BYTES
  br i1 %same, label %NEXT, label %NO

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %FITS ]
  %argument = phi i64 [ %start, %BEGIN ], [ %argument.after, %FITS ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %TYPE, label %YES

TYPE:
  %value = call i64 @word(i64 %given, i64 %i)
  %type = call i64 @word(i64 %value, i64 1)
  %type.wanted = call i64 @word(i64 %argument, i64 0)
  %same.type = icmp eq i64 %type, %type.wanted
  br i1 %same.type, label %PLACE, label %NO

PLACE:
  %by.place = icmp slt i64 %i, %positional
  br i1 %by.place, label %KIND, label %NAME

NAME:
  %j = sub i64 %i, %positional
  %name = call i64 @loopgrad_python_PyTuple_GetItem(i64 %names, i64 %j)
  %name.wanted = call i64 @word(i64 %argument, i64 1)
  %identical = icmp eq i64 %name, %name.wanted
  br i1 %identical, label %KIND, label %COMPARE

COMPARE:
  %order = call i32 @loopgrad_python_PyUnicode_Compare(i64 %name, i64 %name.wanted)
  %equal = icmp eq i32 %order, 0
  br i1 %equal, label %KIND, label %NO

KIND:
  %wanted = call i64 @word(i64 %argument, i64 2)
  %kind = call i64 @word(i64 %argument, i64 3)
  %behind = call i64 @behind(i64 %argument)
  switch i64 %kind, label %NO [
    i64 0, label %ARRAY
    i64 1, label %FLOAT
    i64 2, label %INTEGER
    i64 3, label %TUPLE
  ]

FLOAT:
  %bits = call i64 @word(i64 %value, i64 2)
  %same.float = icmp eq i64 %bits, %wanted
  br i1 %same.float, label %FITS, label %NO

INTEGER:
  %whole = call i64 @loopgrad_python_PyLong_AsLongLongAndOverflow(i64 %value, i32* %fits.not)
  %overflow = load i32, i32* %fits.not
  %small = icmp eq i32 %overflow, 0
  %same.whole = icmp eq i64 %whole, %wanted
  %same.integer = and i1 %small, %same.whole
  br i1 %same.integer, label %FITS, label %NO

ARRAY:
  %same.array = call i1 @matches_array(i64 %value, i64 %argument, i64 %arrays)
  br i1 %same.array, label %FITS, label %NO

TUPLE:
  %length = call i64 @loopgrad_python_PyTuple_Size(i64 %value)
  %same.length = icmp eq i64 %length, %wanted
  br i1 %same.length, label %ITEMS, label %NO

ITEMS:
  %k = phi i64 [ 0, %TUPLE ], [ %k.after, %ITEM.FITS ]
  %item = phi i64 [ %behind, %TUPLE ], [ %item.after, %ITEM.FITS ]
  %more.items = icmp slt i64 %k, %length
  br i1 %more.items, label %ITEM, label %FITS

ITEM:
  %k.after = add i64 %k, 1
  %element = call i64 @loopgrad_python_PyTuple_GetItem(i64 %value, i64 %k)
  %element.type = call i64 @word(i64 %element, i64 1)
  %element.wanted = call i64 @word(i64 %item, i64 0)
  %same.element = icmp eq i64 %element.type, %element.wanted
  br i1 %same.element, label %ITEM.ARRAY, label %NO

ITEM.ARRAY:
  %same.item = call i1 @matches_array(i64 %element, i64 %item, i64 %arrays)
  br i1 %same.item, label %ITEM.FITS, label %NO

ITEM.FITS:
  %item.after = call i64 @behind(i64 %item)
  br label %ITEMS

FITS:
  %argument.after = phi i64 [ %behind, %FLOAT ], [ %behind, %INTEGER ], [ %behind, %ARRAY ], [ %item, %ITEMS ]
  %after = add i64 %i, 1
  br label %NEXT

YES:
  ret i1 true

NO:
  ret i1 false
}

; The same of an array, whose type is right.
define internal i1 @matches_array(i64 %value, i64 %argument, i64 %arrays) {
BEGIN:
  %dtype = call i64 @word(i64 %value, i64 7)
  %dtype.wanted = call i64 @word(i64 %argument, i64 2)
  %rank.long = call i64 @word(i64 %value, i64 3)
  %rank = and i64 %rank.long, 4294967295
  %rank.wanted = call i64 @word(i64 %argument, i64 6)
  %flags = call i64 @word(i64 %value, i64 8)
  %mask = call i64 @word(i64 %argument, i64 5)
  %masked = and i64 %flags, %mask
  %same.dtype = icmp eq i64 %dtype, %dtype.wanted
  %same.rank = icmp eq i64 %rank, %rank.wanted
  %same.flags = icmp eq i64 %masked, %mask
  %same.two = and i1 %same.dtype, %same.rank
  %same = and i1 %same.two, %same.flags
  %extents = call i64 @word(i64 %value, i64 4)
  %extents.wanted = add i64 %argument, 56
  br i1 %same, label %AXIS, label %NO

AXIS:
  %k = phi i64 [ 0, %BEGIN ], [ %after, %EXTENT ]
  %more = icmp slt i64 %k, %rank
  br i1 %more, label %EXTENT, label %YES

EXTENT:
  %after = add i64 %k, 1
  %extent = call i64 @word(i64 %extents, i64 %k)
  %extent.wanted = call i64 @word(i64 %extents.wanted, i64 %k)
  %same.extent = icmp eq i64 %extent, %extent.wanted
  br i1 %same.extent, label %AXIS, label %NO

YES:
  %place = call i64 @word(i64 %argument, i64 4)
  call void @set(i64 %arrays, i64 %place, i64 %value)
  ret i1 true

NO:
  ret i1 false
}

; Where the words of an argument end.
define internal i64 @behind(i64 %argument) alwaysinline {
  %rank = call i64 @word(i64 %argument, i64 6)
  %words = add i64 %rank, 7
  %bytes = mul i64 %words, 8
  %end = add i64 %argument, %bytes
  ret i64 %end
}

; Is scratch not in use, and each array of `out` apart from all others?
define internal i1 @is_ready(i64 %block, i64 %arrays) {
BEGIN:
  %in.use = call i64 @word(i64 %block, i64 2)
  %used = call i64 @word(i64 %in.use, i64 0)
  %out = call i64 @word(i64 %block, i64 13)
  %unused = icmp eq i64 %used, 0
  %without = icmp eq i64 %out, 0
  %inputs = call i64 @word(i64 %block, i64 9)
  %results = call i64 @word(i64 %block, i64 10)
  %all = add i64 %inputs, %results
  %offset = call i64 @word(i64 %block, i64 14)
  %offset.bytes = mul i64 %offset, 8
  %sizes = add i64 %block, %offset.bytes
  br i1 %unused, label %OUT, label %NO

OUT:
  br i1 %without, label %YES, label %NEXT

NEXT:
  %i = phi i64 [ %inputs, %OUT ], [ %after, %OTHERS ]
  %more = icmp slt i64 %i, %all
  br i1 %more, label %WRITTEN, label %YES

WRITTEN:
  %after = add i64 %i, 1
  br label %OTHERS

OTHERS:
  %j = phi i64 [ 0, %WRITTEN ], [ %j.after, %OTHER ]
  %more.others = icmp slt i64 %j, %i
  br i1 %more.others, label %OTHER, label %NEXT

OTHER:
  %j.after = add i64 %j, 1
  %apart = call i1 @are_apart(i64 %arrays, i64 %sizes, i64 %i, i64 %j)
  br i1 %apart, label %OTHERS, label %NO

YES:
  ret i1 true

NO:
  ret i1 false
}

define internal i1 @are_apart(i64 %arrays, i64 %sizes, i64 %i, i64 %j) {
  %one = call i64 @word(i64 %arrays, i64 %i)
  %one.from = call i64 @word(i64 %one, i64 2)
  %one.size = call i64 @word(i64 %sizes, i64 %i)
  %one.to = add i64 %one.from, %one.size
  %other = call i64 @word(i64 %arrays, i64 %j)
  %other.from = call i64 @word(i64 %other, i64 2)
  %other.size = call i64 @word(i64 %sizes, i64 %j)
  %other.to = add i64 %other.from, %other.size
  %before = icmp ule i64 %one.to, %other.from
  %behind = icmp uge i64 %one.from, %other.to
  %apart = or i1 %before, %behind
  ret i1 %apart
}

; New arrays for the results; or one reference more to those of `out`, which are there already.
; Returns how many there are.
define internal i64 @make_results(i64 %block, i64 %results) {
BEGIN:
  %count = call i64 @word(i64 %block, i64 10)
  %type = call i64 @word(i64 %block, i64 12)
  %out = call i64 @word(i64 %block, i64 13)
  %offset = call i64 @word(i64 %block, i64 11)
  %offset.bytes = mul i64 %offset, 8
  %start = add i64 %block, %offset.bytes
  %inputs = call i64 @word(i64 %block, i64 9)
  %sizes.offset = call i64 @word(i64 %block, i64 14)
  %first.size = add i64 %inputs, %sizes.offset
  %is.out = icmp ne i64 %out, 0
  br i1 %is.out, label %WRITTEN, label %NEXT

WRITTEN:
  %w = phi i64 [ 0, %BEGIN ], [ %w.after, %SHARE ]
  %more.written = icmp slt i64 %w, %count
  br i1 %more.written, label %SHARE, label %SHARED

SHARE:
  %w.after = add i64 %w, 1
  %array = call i64 @word(i64 %results, i64 %w)
  call void @loopgrad_python_Py_IncRef(i64 %array)
  br label %WRITTEN

SHARED:
  ret i64 %count

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %MADE ]
  %result = phi i64 [ %start, %BEGIN ], [ %result.after, %MADE ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %MAKE, label %DONE

MAKE:
  %after = add i64 %i, 1
  %dtype = call i64 @word(i64 %result, i64 0)
  %rank = call i64 @word(i64 %result, i64 1)
  %rank.short = trunc i64 %rank to i32
  %extents = add i64 %result, 16
  %by.numpy = icmp ne i64 %dtype, 0
  br i1 %by.numpy, label %SIZED, label %FUNCTION

SIZED:
  %size.at = add i64 %first.size, %i
  %size = call i64 @word(i64 %block, i64 %size.at)
  %is.long = icmp uge i64 %size, LONG_ARRAY
  br i1 %is.long, label %LONG, label %NUMPY

LONG:
  %aligned = call i64 @aligned_array(i64 %block, i64 %dtype, i32 %rank.short, i64 %extents, i64 %size)
  br label %MAKES

FUNCTION:
  %function = call i64 @word(i64 %extents, i64 0)
  %recycled = call i64 @made_by(i64 %block, i64 %function)
  br label %MAKES

NUMPY:
  call void @loopgrad_python_Py_IncRef(i64 %dtype)
  %fresh = call i64 @loopgrad_python_PyArray_NewFromDescr(i64 %type, i64 %dtype, i32 %rank.short, i64 %extents, i64 0, i64 0, i32 0, i64 0)
  %none = icmp eq i64 %fresh, 0
  br i1 %none, label %CLEAR, label %MAKES

CLEAR:
  call void @clear(i64 %block)
  br label %DONE

MAKES:
  %new = phi i64 [ %recycled, %FUNCTION ], [ %fresh, %NUMPY ], [ %aligned, %LONG ]
  %failed = icmp eq i64 %new, 0
  br i1 %failed, label %DONE, label %MADE

MADE:
  call void @set(i64 %results, i64 %i, i64 %new)
  %words = add i64 %rank, 2
  %width = mul i64 %words, 8
  %result.after = add i64 %result, %width
  br label %NEXT

DONE:
  ret i64 %i
}

; An array that begins where a line of memory does, in one of bytes that is a little longer; 0 where it fails.
define internal i64 @aligned_array(i64 %block, i64 %dtype, i32 %rank, i64 %extents, i64 %size) {
BEGIN:
  %type = call i64 @word(i64 %block, i64 12)
  %bytes = call i64 @word(i64 %block, i64 18)
  %length = alloca i64
  %more = add i64 %size, ALIGNMENT
  store i64 %more, i64* %length
  %length.at = ptrtoint i64* %length to i64
  call void @loopgrad_python_Py_IncRef(i64 %bytes)
  %memory = call i64 @loopgrad_python_PyArray_NewFromDescr(i64 %type, i64 %bytes, i32 1, i64 %length.at, i64 0, i64 0, i32 0, i64 0)
  %no.memory = icmp eq i64 %memory, 0
  br i1 %no.memory, label %FAILED, label %VIEW

VIEW:
  %data = call i64 @word(i64 %memory, i64 2)
  %end = add i64 %data, ALIGNMENT
  %past = sub i64 %end, 1
  %first = and i64 %past, -ALIGNMENT
  call void @loopgrad_python_Py_IncRef(i64 %dtype)
  %array = call i64 @loopgrad_python_PyArray_NewFromDescr(i64 %type, i64 %dtype, i32 %rank, i64 %extents, i64 0, i64 %first, i32 WRITEABLE, i64 0)
  %no.array = icmp eq i64 %array, 0
  br i1 %no.array, label %LOST, label %OWNED

OWNED:
  %failed = call i32 @loopgrad_python_PyArray_SetBaseObject(i64 %array, i64 %memory)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %DONE, label %UNOWNED

UNOWNED:
  call void @loopgrad_python_Py_DecRef(i64 %array)
  br label %FAILED

LOST:
  call void @loopgrad_python_Py_DecRef(i64 %memory)
  br label %FAILED

FAILED:
  call void @clear(i64 %block)
  br label %DONE

DONE:
  %made = phi i64 [ %array, %OWNED ], [ 0, %FAILED ]
  ret i64 %made
}

; What a Python function returns; 0 where it fails.
define internal i64 @made_by(i64 %block, i64 %function) {
BEGIN:
  %made = call i64 @loopgrad_python_PyObject_CallNoArgs(i64 %function)
  %failed = icmp eq i64 %made, 0
  br i1 %failed, label %FAILED, label %DONE

FAILED:
  call void @clear(i64 %block)
  br label %DONE

DONE:
  ret i64 %made
}

; Takes back an exception that the long way will raise again, with better words.
define internal void @clear(i64 %block) {
BEGIN:
  %ordinary = call i64 @word(i64 %block, i64 16)
  %matches = call i32 @loopgrad_python_PyErr_ExceptionMatches(i64 %ordinary)
  %is.ordinary = icmp ne i32 %matches, 0
  br i1 %is.ordinary, label %FORGET, label %DONE

FORGET:
  call void @loopgrad_python_PyErr_Clear()
  br label %DONE

DONE:
  ret void
}

define internal void @release(i64 %results, i64 %count) {
BEGIN:
  br label %NEXT

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %MORE ]
  %is.more = icmp slt i64 %i, %count
  br i1 %is.more, label %MORE, label %DONE

MORE:
  %after = add i64 %i, 1
  %array = call i64 @word(i64 %results, i64 %i)
  call void @loopgrad_python_Py_DecRef(i64 %array)
  br label %NEXT

DONE:
  ret void
}

; Runs the compiled program, without the GIL where that is worth it.
define internal i32 @run(i64 %block, i64 %arrays, i64 %record, i64 %scratch) {
BEGIN:
  %code = call i64 @word(i64 %block, i64 4)
  %integers = call i64 @word(i64 %block, i64 5)
  %reals = call i64 @word(i64 %block, i64 6)
  %threads = call i64 @word(i64 %block, i64 8)
  %function = inttoptr i64 %code to i32 (i64, i64, i64, i64, i64, i64)*
  %releases = call i64 @word(i64 %block, i64 3)
  %keeps = icmp eq i64 %releases, 0
  br i1 %keeps, label %QUICK, label %LONG

QUICK:
  %failed = call i32 %function(i64 %arrays, i64 %integers, i64 %reals, i64 %record, i64 %scratch, i64 %threads)
  ret i32 %failed

LONG:
  %state = call i64 @loopgrad_python_PyEval_SaveThread()
  %failed.too = call i32 %function(i64 %arrays, i64 %integers, i64 %reals, i64 %record, i64 %scratch, i64 %threads)
  call void @loopgrad_python_PyEval_RestoreThread(i64 %state)
  ret i32 %failed.too
}

; The result, or a tuple. Takes over the references to results. 0 where there is no memory.
define internal i64 @answer(i64 %entry, i64 %arrays, i64 %inputs, i64 %results, i1 %whole) {
BEGIN:
  %one = icmp eq i64 %results, 1
  %not.whole = xor i1 %whole, true
  %single = and i1 %not.whole, %one
  br i1 %single, label %ALONE, label %SEVERAL

ALONE:
  %result = call i64 @word(i64 %arrays, i64 %inputs)
  ret i64 %result

SEVERAL:
  %all = add i64 %inputs, %results
  %first = select i1 %whole, i64 0, i64 %inputs
  %before = zext i1 %whole to i64
  %shift = sub i64 %before, %first
  %size = add i64 %all, %shift
  %tuple = call i64 @loopgrad_python_PyTuple_New(i64 %size)
  %failed = icmp eq i64 %tuple, 0
  br i1 %failed, label %CLEAR, label %FILL

FILL:
  br i1 %whole, label %TOKEN, label %NEXT

TOKEN:
  %token = call i64 @loopgrad_python_PyTuple_GetItem(i64 %entry, i64 1)
  call void @loopgrad_python_Py_IncRef(i64 %token)
  %set.token = call i32 @loopgrad_python_PyTuple_SetItem(i64 %tuple, i64 0, i64 %token)
  br label %NEXT

NEXT:
  %i = phi i64 [ %first, %FILL ], [ %first, %TOKEN ], [ %after, %KEEP ]
  %more = icmp slt i64 %i, %all
  br i1 %more, label %MORE, label %DONE

MORE:
  %after = add i64 %i, 1
  %array = call i64 @word(i64 %arrays, i64 %i)
  %is.input = icmp slt i64 %i, %inputs
  br i1 %is.input, label %SHARE, label %KEEP

SHARE:
  call void @loopgrad_python_Py_IncRef(i64 %array)
  br label %KEEP

KEEP:
  %place = add i64 %i, %shift
  %set = call i32 @loopgrad_python_PyTuple_SetItem(i64 %tuple, i64 %place, i64 %array)
  br label %NEXT

DONE:
  ret i64 %tuple

CLEAR:
  call void @loopgrad_python_PyErr_Clear()
  ret i64 0
}

; The address of an entry's block: the elements of the array that its first item is.
define internal i64 @block(i64 %entry) alwaysinline {
  %array = call i64 @loopgrad_python_PyTuple_GetItem(i64 %entry, i64 0)
  %address = call i64 @word(i64 %array, i64 2)
  ret i64 %address
}

define internal i64 @word(i64 %address, i64 %number) alwaysinline {
  %offset = mul i64 %number, 8
  %place = add i64 %address, %offset
  %pointer = inttoptr i64 %place to i64*
  %value = load i64, i64* %pointer
  ret i64 %value
}

define internal void @set(i64 %address, i64 %number, i64 %value) alwaysinline {
  %offset = mul i64 %number, 8
  %place = add i64 %address, %offset
  %pointer = inttoptr i64 %place to i64*
  store i64 %value, i64* %pointer
  ret void
}
