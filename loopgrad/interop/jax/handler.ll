; What XLA calls: finds the code that a call of its program stands for, and runs it on XLA's memory.
;
; `loopgrad_xla` is a handler of XLA's typed FFI. Its argument, the call frame, and all that hangs on it are
; laid out as jaxlib's header xla/ffi/api/c_api.h says; the words below are that header's. The operation has
; the attributes `call`, all that is known of it as text, and `site`, a number made of that text. The
; number is looked up among what this process has compiled (handler.py): an array
;
;   mask, number, block, number, block, ...       mask + 1 pairs, a power of two; number 0: none
;
; of which a block has the words
;
;   0 code                         4 results
;   1 integers                     5 bytes of scratch, with those to align it
;   2 reals                        6 words of a record
;   3 threads                      7 results that have to fit int32: how many, then place and elements each
;
; XLA gives scratch as one result more. What is not as it was, and what fails, goes to a function of
; Python's (@slow), which does the whole call again and returns 0 or the address of a message.
;
; Objects and addresses are i64 throughout.

@table = internal global i64 0, align 8
@slow = internal global i64 0, align 8
@version = internal global i64 0, align 8 ; of the header: major, minor, 32 bits each
@count = internal global i64 0, align 8 ; where the number of threads is that the user wants now

define void @loopgrad_xla_setup(i64 %slow, i64 %count, i64 %version) {
  store i64 %slow, i64* @slow
  store i64 %count, i64* @count
  store i64 %version, i64* @version
  ret void
}

define void @loopgrad_xla_table(i64 %table) {
  store atomic i64 %table, i64* @table release, align 8
  ret void
}

define i64 @loopgrad_xla(i64 %frame) {
BEGIN:
  %extension = call i64 @word(i64 %frame, i64 1)
  %extended = icmp ne i64 %extension, 0
  br i1 %extended, label %EXTENSION, label %EXECUTE

EXTENSION:
  %type.long = call i64 @word(i64 %extension, i64 1)
  %type = trunc i64 %type.long to i32
  %asks = icmp eq i32 %type, 1
  br i1 %asks, label %METADATA, label %EXECUTE

METADATA:
  call void @tell(i64 %extension)
  ret i64 0

EXECUTE:
  ; The sizes of the frame's parts: arguments, results, attributes.
  %arguments.size = call i64 @word(i64 %frame, i64 5)
  %results.size = call i64 @word(i64 %frame, i64 10)
  %attributes.size = call i64 @word(i64 %frame, i64 15)
  %is.a = icmp eq i64 %arguments.size, 40
  %is.r = icmp eq i64 %results.size, 40
  %is.t = icmp eq i64 %attributes.size, 48
  %is.ar = and i1 %is.a, %is.r
  %is.known = and i1 %is.ar, %is.t
  br i1 %is.known, label %READ, label %STRANGE

STRANGE:
  %strange = ptrtoint [72 x i8]* @strange to i64
  %strange.error = call i64 @error(i64 %frame, i64 %strange)
  ret i64 %strange.error

READ:
  %attributes = call i64 @word(i64 %frame, i64 20)
  %text = call i64 @word(i64 %attributes, i64 0)
  %text.begin = call i64 @word(i64 %text, i64 0)
  %text.length = call i64 @word(i64 %text, i64 1)
  %scalar = call i64 @word(i64 %attributes, i64 1)
  %value = call i64 @word(i64 %scalar, i64 1)
  %number = call i64 @word(i64 %value, i64 0)
  %arguments = call i64 @word(i64 %frame, i64 7)
  %argument = call i64 @word(i64 %frame, i64 9)
  %results = call i64 @word(i64 %frame, i64 12)
  %result = call i64 @word(i64 %frame, i64 14)
  ; The addresses of elements; and for each an array object, of which only that address is ever read.
  %all = add i64 %arguments, %results
  %elements.at = alloca i64, i64 %all, align 16
  %arrays.at = alloca i64, i64 %all, align 16
  %elements = ptrtoint i64* %elements.at to i64
  %arrays = ptrtoint i64* %arrays.at to i64
  %result.elements = call i64 @place(i64 %elements, i64 %arguments)
  %result.arrays = call i64 @place(i64 %arrays, i64 %arguments)
  call void @point(i64 %argument, i64 %arguments, i64 %elements, i64 %arrays)
  call void @point(i64 %result, i64 %results, i64 %result.elements, i64 %result.arrays)
  %block = call i64 @find(i64 %number)
  %found = icmp ne i64 %block, 0
  br i1 %found, label %SCRATCH, label %SLOW

SCRATCH:
  %wanted = call i64 @word(i64 %block, i64 5)
  %own = call i64 @word(i64 %block, i64 4)
  %without = icmp eq i64 %wanted, 0
  br i1 %without, label %RUN, label %GIVEN

GIVEN:
  %given = icmp slt i64 %own, %results
  br i1 %given, label %ENOUGH, label %SLOW

ENOUGH:
  %buffer = call i64 @word(i64 %result, i64 %own)
  %memory = call i64 @word(i64 %buffer, i64 3)
  %extents = call i64 @word(i64 %buffer, i64 5)
  %size = call i64 @word(i64 %extents, i64 0)
  %enough = icmp sge i64 %size, %wanted
  %more = add i64 %memory, 63
  %aligned = and i64 %more, -64
  br i1 %enough, label %RUN, label %SLOW

RUN:
  %scratch = phi i64 [ 0, %SCRATCH ], [ %aligned, %ENOUGH ]
  %code = call i64 @word(i64 %block, i64 0)
  %integers = call i64 @word(i64 %block, i64 1)
  %reals = call i64 @word(i64 %block, i64 2)
  %most = call i64 @word(i64 %block, i64 3)
  %record.length = call i64 @word(i64 %block, i64 6)
  %record.at = alloca i64, i64 %record.length, align 16
  %record = ptrtoint i64* %record.at to i64
  call void @set(i64 %record, i64 0, i64 0)
  call void @set(i64 %record, i64 1, i64 0)
  %count = load i64, i64* @count
  %now = call i64 @word(i64 %count, i64 0)
  %fewer = icmp slt i64 %now, %most
  %threads = select i1 %fewer, i64 %now, i64 %most
  %function = inttoptr i64 %code to i32 (i64, i64, i64, i64, i64, i64)*
  %failed = call i32 %function(i64 %arrays, i64 %integers, i64 %reals, i64 %record, i64 %scratch, i64 %threads)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %CHECK, label %SLOW

CHECK:
  %narrow = call i64 @word(i64 %block, i64 7)
  %none = icmp eq i64 %narrow, 0
  br i1 %none, label %DONE, label %FIT

FIT:
  %fits = call i1 @fit(i64 %block, i64 %narrow, i64 %result.elements)
  br i1 %fits, label %DONE, label %SLOW

DONE:
  ret i64 0

SLOW:
  %slow = load i64, i64* @slow
  %again = inttoptr i64 %slow to i64 (i64, i64, i64, i64)*
  %message = call i64 %again(i64 %number, i64 %text.begin, i64 %text.length, i64 %elements)
  %well = icmp eq i64 %message, 0
  br i1 %well, label %DONE, label %FAILED

FAILED:
  %error = call i64 @error(i64 %frame, i64 %message)
  ret i64 %error
}

; Answers XLA's question what version this is for.
define internal void @tell(i64 %extension) {
  %version = load i64, i64* @version
  %metadata = call i64 @word(i64 %extension, i64 3)
  call void @set(i64 %metadata, i64 3, i64 %version)
  %traits.at = add i64 %metadata, 32
  %traits = inttoptr i64 %traits.at to i32*
  store i32 0, i32* %traits
  ret void
}

; A new error of XLA's, with the message that begins there.
define internal i64 @error(i64 %frame, i64 %message) {
  %given.at = alloca i64, i64 4, align 16
  %given = ptrtoint i64* %given.at to i64
  call void @set(i64 %given, i64 0, i64 28)
  call void @set(i64 %given, i64 1, i64 0)
  call void @set(i64 %given, i64 2, i64 %message)
  call void @set(i64 %given, i64 3, i64 3) ; an invalid argument
  %api = call i64 @word(i64 %frame, i64 2)
  %create = call i64 @word(i64 %api, i64 6)
  %function = inttoptr i64 %create to i64 (i64)*
  %error = call i64 %function(i64 %given)
  ret i64 %error
}

; Where the elements of buffers are, and array objects that say so.
define internal void @point(i64 %buffers, i64 %number, i64 %elements, i64 %arrays) {
BEGIN:
  br label %NEXT

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %ONE ]
  %more = icmp slt i64 %i, %number
  br i1 %more, label %ONE, label %DONE

ONE:
  %after = add i64 %i, 1
  %buffer = call i64 @word(i64 %buffers, i64 %i)
  %data = call i64 @word(i64 %buffer, i64 3)
  call void @set(i64 %elements, i64 %i, i64 %data)
  %place = call i64 @place(i64 %elements, i64 %i)
  %object = sub i64 %place, ARRAY_HEAD
  call void @set(i64 %arrays, i64 %i, i64 %object)
  br label %NEXT

DONE:
  ret void
}

; The block of a number, 0 for none.
define internal i64 @find(i64 %number) {
BEGIN:
  %table = load atomic i64, i64* @table acquire, align 8
  %mask = call i64 @word(i64 %table, i64 0)
  br label %TRY

TRY:
  %i = phi i64 [ %number, %BEGIN ], [ %after, %OTHER ]
  %after = add i64 %i, 1
  %pair = and i64 %i, %mask
  %twice = mul i64 %pair, 2
  %first = add i64 %twice, 1
  %second = add i64 %twice, 2
  %there = call i64 @word(i64 %table, i64 %first)
  %same = icmp eq i64 %there, %number
  br i1 %same, label %FOUND, label %ANY

ANY:
  %empty = icmp eq i64 %there, 0
  br i1 %empty, label %NONE, label %OTHER

OTHER:
  br label %TRY

FOUND:
  %block = call i64 @word(i64 %table, i64 %second)
  ret i64 %block

NONE:
  ret i64 0
}

; Do the integers that JAX will hold as int32 fit that?
define internal i1 @fit(i64 %block, i64 %number, i64 %elements) {
BEGIN:
  br label %NEXT

NEXT:
  %i = phi i64 [ 0, %BEGIN ], [ %after, %ELEMENT ]
  %more = icmp slt i64 %i, %number
  br i1 %more, label %RESULT, label %YES

RESULT:
  %after = add i64 %i, 1
  %twice = mul i64 %i, 2
  %first = add i64 %twice, 8
  %second = add i64 %twice, 9
  %place = call i64 @word(i64 %block, i64 %first)
  %length = call i64 @word(i64 %block, i64 %second)
  %data = call i64 @word(i64 %elements, i64 %place)
  br label %ELEMENT

ELEMENT:
  %k = phi i64 [ 0, %RESULT ], [ %k.after, %ONE ]
  %more.elements = icmp slt i64 %k, %length
  br i1 %more.elements, label %ONE, label %NEXT

ONE:
  %k.after = add i64 %k, 1
  %value = call i64 @word(i64 %data, i64 %k)
  %narrow = trunc i64 %value to i32
  %wide = sext i32 %narrow to i64
  %fits = icmp eq i64 %wide, %value
  br i1 %fits, label %ELEMENT, label %NO

YES:
  ret i1 true

NO:
  ret i1 false
}

@strange = internal constant [72 x i8] c"this version of XLA lays out calls in a way that loopgrad does not know\00"

define internal i64 @place(i64 %address, i64 %number) alwaysinline {
  %offset = mul i64 %number, 8
  %place = add i64 %address, %offset
  ret i64 %place
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
