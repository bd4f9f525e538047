; The functions of threads.ll for systems that it does not suit: one thread does all parts.
; Pointers are written with types, as there.

define void @loopgrad_parallel(void (i8*, i64, i64)* %function, i8* %context, i64 %threads) {
entry:
  %several = icmp sgt i64 %threads, 1
  %count = select i1 %several, i64 %threads, i64 1
  br label %next
next:
  %thread = phi i64 [ 0, %entry ], [ %following, %next ]
  call void %function(i8* %context, i64 %thread, i64 %count)
  %following = add i64 %thread, 1
  %more = icmp slt i64 %following, %count
  br i1 %more, label %next, label %end
end:
  ret void
}

@count = internal global i64* null
define void @loopgrad_threads_setup(i64* %count) {
  store i64* %count, i64** @count
  ret void
}

define i64 @loopgrad_num_threads() {
  %at = load i64*, i64** @count
  %count = load i64, i64* %at
  ret i64 %count
}
