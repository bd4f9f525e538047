; How compiled code runs on several threads: `loopgrad_parallel`, its pool, and its use of OpenMP.
;
; Pointers are written with types, as LLVM 14 wants them; threads.py takes the types away for those
; versions that do not, and fills in the words that a dollar marks.

%body = type void (i8*, i64, i64)

; ------------------------------------------------------------------------- what the caller asked

; Of the call that has the pool. Written while no part is open; whoever has taken a part may read it.
@function = internal global %body* null
@context = internal global i8* null
@threads = internal global i64 0
@processor = internal global i32 0 ; that the caller was on

; ------------------------------------------------------------------------------ state of the pool

@busy = internal global i32 0, align 64           ; 1 while a call has the pool
@left = internal global i32 0, align 64           ; parts of that call that are not finished
@open = internal global [1024 x i8] zeroinitializer, align 64 ; 1: a part that nobody has taken
@started = internal global i64 0, align 64        ; threads there are, the caller among them

; Bells: of each worker, that there is something to do; of the caller (0), that all is done.
; 0: not rung, 1: rung, 2: not rung, and the one it is for sleeps at the semaphore.
@bell = internal global [1024 x i32] zeroinitializer, align 64
@semaphore = internal global [1024 x [64 x i8]] zeroinitializer, align 64

; ------------------------------------------------------------------------------ set by threads.py

@count = internal global i64* null     ; how many threads the user wants
@look = internal global void ()* null  ; looks for OpenMP among the libraries in memory
@openmp = internal global i8** null    ; GOMP_parallel, omp_get_thread_num, omp_get_num_threads
@seen = internal global i64 0          ; how many libraries there had been when it last looked
@closed = internal global i32 0, align 64  ; nobody may ask how many libraries there are: 1, during a fork; 2, never again
@asking = internal global i32 0            ; threads that ask, or are about to find it closed

; ------------------------------------------------- what one caller knows of its threads of OpenMP

@owner = internal global i64 0      ; that caller: a thread, 0 for none
@owner.seen = internal global i64 0 ; when it last called
@watched = internal global i32 0    ; the clock of one of its threads' processor time, 0 for none
@baseline = internal global i64 0   ; what that clock said when we had left them alone, or -1
@last = internal global i64 0       ; when we last used them
@until = internal global i64 0      ; until when we use them
@while = internal global i64 0      ; for how long, when that was decided

declare i32 @loopgrad_system_dl_iterate_phdr(i32 (i8*, i64, i8*)*, i8*)
declare i32 @loopgrad_system_clock_gettime(i32, i64*)
declare i32 @loopgrad_system_sched_getaffinity(i32, i64, i8*)
declare i32 @loopgrad_system_sched_getcpu()
declare i32 @loopgrad_system_sched_setaffinity(i32, i64, i8*)
declare i32 @loopgrad_system_sched_yield()
declare i32 @loopgrad_system_sem_init(i8*, i32, i32)
declare i32 @loopgrad_system_sem_post(i8*)
declare i32 @loopgrad_system_sem_wait(i8*)
declare i32 @loopgrad_system_sigdelset(i8*, i32)
declare i32 @loopgrad_system_sigfillset(i8*)
declare i32 @loopgrad_system_pthread_sigmask(i32, i8*, i8*)
declare i32 @loopgrad_system_pthread_create(i64*, i8*, i8* (i8*)*, i8*)
declare i32 @loopgrad_system_pthread_detach(i64)
declare i32 @loopgrad_system_pthread_getcpuclockid(i64, i32*)
declare i64 @loopgrad_system_pthread_self()
$declare_pause

define void @loopgrad_threads_setup(i64* %count, void ()* %look) {
  store i64* %count, i64** @count
  store void ()* %look, void ()** @look
  ret void
}

define void @loopgrad_threads_share(i8** %openmp) {
entry:
  %before = load atomic i8**, i8*** @openmp monotonic, align 8
  %same = icmp eq i8** %before, %openmp
  br i1 %same, label %end, label %new
new:
  store atomic i8** %openmp, i8*** @openmp release, align 8
  store atomic i64 0, i64* @owner monotonic, align 8
  br label %end
end:
  ret void
}

define i64 @loopgrad_num_threads() {
  %at = load i64*, i64** @count
  %count = load atomic i64, i64* %at monotonic, align 8
  ret i64 %count
}

; Before a fork: waits until nobody asks how many libraries there are. The C library has a lock for that,
; which the child would find held for good.
define void @loopgrad_threads_close() {
entry:
  %was = cmpxchg i32* @closed, i32 0, i32 1 seq_cst seq_cst
  br label %test
test:
  %asking = load atomic i32, i32* @asking seq_cst, align 4
  %none = icmp eq i32 %asking, 0
  br i1 %none, label %end, label %wait
wait:
  %0 = call i32 @loopgrad_system_sched_yield()
  br label %test
end:
  ret void
}

; After it, in the parent.
define void @loopgrad_threads_open() {
  %was = cmpxchg i32* @closed, i32 1, i32 0 seq_cst seq_cst
  ret void
}

; In the child of a fork, where the pool's threads are not, nor those of an OpenMP runtime. It never asks
; for libraries: another thread may have been in the midst of loading one.
define void @loopgrad_threads_forked() {
  store atomic i32 2, i32* @closed seq_cst, align 4
  store atomic i32 0, i32* @asking seq_cst, align 4
  store atomic i8** null, i8*** @openmp release, align 8
  store void ()* @nothing, void ()** @look
  call void @renew()
  ret void
}

define internal void @nothing() {
  ret void
}

; The pool as it was at first, without threads.
define internal void @renew() {
entry:
  store i32 0, i32* @left
  store i64 0, i64* @started
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %open = getelementptr [1024 x i8], [1024 x i8]* @open, i64 0, i64 %i
  store i8 0, i8* %open
  %bell = getelementptr [1024 x i32], [1024 x i32]* @bell, i64 0, i64 %i
  store i32 0, i32* %bell
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, 1024
  br i1 %more, label %next, label %end
end:
  store atomic i32 0, i32* @busy release, align 4
  ret void
}

; ---------------------------------------------------------------------------------------- the call

; Runs function(context, thread, threads) for every thread below `threads`; returns when all is done.
define void @loopgrad_parallel(%body* %function, i8* %context, i64 %threads) {
  %few = icmp sle i64 %threads, 1
  br i1 %few, label %single, label %several
single:
  call void %function(i8* %context, i64 0, i64 1)
  ret void
several:
  %openmp = call i8** @runtime()
  %none = icmp eq i8** %openmp, null
  br i1 %none, label %ours, label %choose
choose:
  %with.others = call i1 @shares()
  br i1 %with.others, label %shared, label %ours
shared:
  call void @by_openmp(i8** %openmp, %body* %function, i8* %context, i64 %threads)
  ret void
ours:
  %many = icmp ugt i64 %threads, 1024
  br i1 %many, label %alone, label %claim
claim:
  ; Somebody else has the pool, or we are a part of a call that has it: nobody to wait for.
  %claimed = cmpxchg i32* @busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %claimed, 1
  br i1 %free, label %pool, label %alone
pool:
  call void @by_pool(%body* %function, i8* %context, i64 %threads)
  store atomic i32 0, i32* @busy release, align 4
  ret void
alone:
  call void @stride(%body* %function, i8* %context, i64 0, i64 1, i64 %threads)
  ret void
}

; The parts first, first + step, ... of `threads`.
define internal void @stride(%body* %function, i8* %context, i64 %first, i64 %step, i64 %threads) {
entry:
  br label %test
test:
  %part = phi i64 [ %first, %entry ], [ %following, %run ]
  %more = icmp slt i64 %part, %threads
  br i1 %more, label %run, label %end
run:
  call void %function(i8* %context, i64 %part, i64 %threads)
  %following = add i64 %part, %step
  br label %test
end:
  ret void
}

; ------------------------------------------------------------------------------------------ OpenMP

; The OpenMP runtime of this process, or null. It may come with a library at any time, so how many
; libraries were ever loaded is asked each time, which takes some ten nanoseconds.
define internal i8** @runtime() {
entry:
  %loaded = alloca i64
  %enter = atomicrmw add i32* @asking, i32 1 seq_cst
  %closed = load atomic i32, i32* @closed seq_cst, align 4
  %may = icmp eq i32 %closed, 0
  br i1 %may, label %ask, label %forking
forking:
  %back = atomicrmw sub i32* @asking, i32 1 seq_cst
  br label %known
ask:
  store i64 0, i64* %loaded
  %to = bitcast i64* %loaded to i8*
  %0 = call i32 @loopgrad_system_dl_iterate_phdr(i32 (i8*, i64, i8*)* @first_library, i8* %to)
  %leave = atomicrmw sub i32* @asking, i32 1 seq_cst
  %now = load i64, i64* %loaded
  %before = atomicrmw xchg i64* @seen, i64 %now monotonic
  %same = icmp eq i64 %now, %before
  br i1 %same, label %known, label %changed
changed:
  %look = load void ()*, void ()** @look
  call void %look()
  br label %known
known:
  %openmp = load atomic i8**, i8*** @openmp acquire, align 8
  ret i8** %openmp
}

; The fifth field of `struct dl_phdr_info` counts the libraries that were ever loaded.
define internal i32 @first_library(i8* %library, i64 %size, i8* %to) {
  %at = getelementptr i8, i8* %library, i64 32
  %count = bitcast i8* %at to i64*
  %loaded = load i64, i64* %count
  %result = bitcast i8* %to to i64*
  store i64 %loaded, i64* %result
  ret i32 1
}

; Whether this call uses the runtime's threads. They wait busily for some milliseconds after each use,
; in the way of all others, our own among them. That is as it should be where somebody else uses them
; again and again: then we are in nobody's way but by using others beside. Where we alone use them,
; they would be in the way of OpenBLAS, of JAX, of any other process, on our account.
;
; So we use them while somebody else does: while the processor time of one of them grows that we have
; left alone for 10 ms. After a while we leave them alone again, and look; the longer a while, the
; longer it has been so. A runtime has threads for each thread that calls it: one caller is watched.
define internal i1 @shares() {
entry:
  %now = call i64 @now()
  %self = call i64 @loopgrad_system_pthread_self()
  %owner = load atomic i64, i64* @owner monotonic, align 8
  %ours = icmp eq i64 %self, %owner
  br i1 %ours, label %known, label %stranger
stranger:
  %seen = load atomic i64, i64* @owner.seen monotonic, align 8
  %rest = sub i64 %now, %seen
  %away = icmp sgt i64 %rest, 1000000000
  %nobody = icmp eq i64 %owner, 0
  %vacant = or i1 %away, %nobody
  br i1 %vacant, label %enter, label %no
enter:
  %entered = cmpxchg i64* @owner, i64 %owner, i64 %self monotonic monotonic
  %mine = extractvalue { i64, i1 } %entered, 1
  br i1 %mine, label %first, label %no
first:
  ; A first use, which tells of a thread to watch.
  store i64 %now, i64* @owner.seen
  store i32 0, i32* @watched
  store i64 -1, i64* @baseline
  store i64 0, i64* @until
  ret i1 true
known:
  store atomic i64 %now, i64* @owner.seen monotonic, align 8
  %until = load i64, i64* @until
  %sharing = icmp slt i64 %now, %until
  br i1 %sharing, label %yes, label %watch
watch:
  %watched = load i32, i32* @watched
  %alone = icmp eq i32 %watched, 0
  br i1 %alone, label %no, label %wait
wait:
  %last = load i64, i64* @last
  %quiet = sub i64 %now, %last
  %settled = icmp sgt i64 %quiet, 10000000
  br i1 %settled, label %compare, label %no
compare:
  %used = call i64 @time(i32 %watched)
  %gone = icmp eq i64 %used, 0
  br i1 %gone, label %forget, label %live
forget:
  ; The thread has ended; with the next call we begin anew.
  store atomic i64 0, i64* @owner monotonic, align 8
  br label %no
live:
  %baseline = load i64, i64* @baseline
  %unknown = icmp slt i64 %baseline, 0
  br i1 %unknown, label %note, label %judge
note:
  store i64 %used, i64* @baseline
  br label %no
judge:
  %growth = sub i64 %used, %baseline
  %grown = icmp sgt i64 %growth, 50000
  br i1 %grown, label %share, label %no
share:
  %ago = sub i64 %now, %until
  %recent = icmp slt i64 %ago, 1000000000
  %former = load i64, i64* @while
  %twice = mul i64 %former, 2
  %longest = icmp sgt i64 %twice, 800000000
  %limited = select i1 %longest, i64 800000000, i64 %twice
  %while = select i1 %recent, i64 %limited, i64 100000000
  store i64 %while, i64* @while
  %end = add i64 %now, %while
  store i64 %end, i64* @until
  store i64 -1, i64* @baseline
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

%job = type { i8**, %body*, i8*, i64 }

define internal void @by_openmp(i8** %openmp, %body* %function, i8* %context, i64 %threads) {
entry:
  %job = alloca %job
  %0 = insertvalue %job undef, i8** %openmp, 0
  %1 = insertvalue %job %0, %body* %function, 1
  %2 = insertvalue %job %1, i8* %context, 2
  %3 = insertvalue %job %2, i64 %threads, 3
  store %job %3, %job* %job
  %data = bitcast %job* %job to i8*
  ; Always as many as the user wants: libgomp ends the threads that a smaller team has no use for.
  %wanted = call i64 @loopgrad_num_threads()
  %team = trunc i64 %wanted to i32
  %address = load i8*, i8** %openmp
  %parallel = bitcast i8* %address to void (void (i8*)*, i8*, i32, i32)*
  call void %parallel(void (i8*)* @member, i8* %data, i32 %team, i32 0)
  %now = call i64 @now()
  store i64 %now, i64* @last
  ret void
}

; What each thread of the team does. The team may be smaller than asked for.
define internal void @member(i8* %data) {
entry:
  %job = bitcast i8* %data to %job*
  %fields = load %job, %job* %job
  %openmp = extractvalue %job %fields, 0
  %function = extractvalue %job %fields, 1
  %context = extractvalue %job %fields, 2
  %threads = extractvalue %job %fields, 3
  %rank.at = getelementptr i8*, i8** %openmp, i64 1
  %rank.address = load i8*, i8** %rank.at
  %rank.function = bitcast i8* %rank.address to i32 ()*
  %rank = call i32 %rank.function()
  %size.at = getelementptr i8*, i8** %openmp, i64 2
  %size.address = load i8*, i8** %size.at
  %size.function = bitcast i8* %size.address to i32 ()*
  %size = call i32 %size.function()
  %second = icmp eq i32 %rank, 1
  br i1 %second, label %watched, label %work
watched:
  call void @be_watched()
  br label %work
work:
  %first = zext i32 %rank to i64
  %step = zext i32 %size to i64
  call void @stride(%body* %function, i8* %context, i64 %first, i64 %step, i64 %threads)
  ret void
}

; Leaves the number of the clock that counts this thread's processor time.
define internal void @be_watched() {
entry:
  %known = load i32, i32* @watched
  %new = icmp eq i32 %known, 0
  br i1 %new, label %leave, label %end
leave:
  %self = call i64 @loopgrad_system_pthread_self()
  %0 = call i32 @loopgrad_system_pthread_getcpuclockid(i64 %self, i32* @watched)
  br label %end
end:
  ret void
}

; ---------------------------------------------------------------------------------------- our pool

; The caller has the pool. It opens the parts, wakes who may help, and works itself: should nobody
; wake in time, it does all of them. At most 1024 threads.
define internal void @by_pool(%body* %function, i8* %context, i64 %threads) {
entry:
  store atomic %body* %function, %body** @function monotonic, align 8
  store atomic i8* %context, i8** @context monotonic, align 8
  store atomic i64 %threads, i64* @threads monotonic, align 8
  %processor = call i32 @loopgrad_system_sched_getcpu()
  store atomic i32 %processor, i32* @processor monotonic, align 4
  %parts = trunc i64 %threads to i32
  store atomic i32 %parts, i32* @left monotonic, align 4
  br label %opening
opening:
  %i = phi i64 [ 0, %entry ], [ %i1, %opening ]
  %open = getelementptr [1024 x i8], [1024 x i8]* @open, i64 0, i64 %i
  store atomic i8 1, i8* %open release, align 1
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %threads
  br i1 %more, label %opening, label %opened
opened:
  %wanted = call i64 @loopgrad_num_threads()
  %fewer = icmp ult i64 %threads, %wanted
  %few = select i1 %fewer, i64 %threads, i64 %wanted
  %all = call i64 @start(i64 %few)
  br label %waking
waking:
  %w = phi i64 [ 1, %opened ], [ %w1, %ask ]
  %another = icmp ult i64 %w, %all
  br i1 %another, label %ask, label %working
ask:
  call void @ring(i64 %w)
  %w1 = add i64 %w, 1
  br label %waking
working:
  %last = call i1 @work(i64 0)
  br i1 %last, label %end, label %waiting
waiting:
  ; All parts are taken. A worker that finishes the last of them will ring.
  call void @await(i64 0, i64 $caller_awake)
  br label %end
end:
  ret void
}

; Takes open parts, its own first, and does them. Returns whether the caller (0) finished the last.
; A worker may come late, and find another call than the one it was woken for, or none. That is no
; matter: an open part that was taken keeps its call from ending, and only then are its fields read.
define internal i1 @work(i64 %me) {
entry:
  %about = load atomic i64, i64* @threads monotonic, align 8
  %fits = icmp ult i64 %me, %about
  %first = select i1 %fits, i64 %me, i64 0
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k1, %continue ]
  %last = phi i1 [ false, %entry ], [ %last1, %continue ]
  %more = icmp ult i64 %k, %about
  br i1 %more, label %look, label %end
look:
  %onward = add i64 %first, %k
  %over = icmp uge i64 %onward, %about
  %wrapped = sub i64 %onward, %about
  %part = select i1 %over, i64 %wrapped, i64 %onward
  %open = getelementptr [1024 x i8], [1024 x i8]* @open, i64 0, i64 %part
  %seems = load atomic i8, i8* %open monotonic, align 1
  %maybe = icmp ne i8 %seems, 0
  br i1 %maybe, label %take, label %continue
take:
  %taken = atomicrmw xchg i8* %open, i8 0 acquire
  %mine = icmp ne i8 %taken, 0
  br i1 %mine, label %run, label %continue
run:
  %function = load atomic %body*, %body** @function monotonic, align 8
  %context = load atomic i8*, i8** @context monotonic, align 8
  %threads = load atomic i64, i64* @threads monotonic, align 8
  call void %function(i8* %context, i64 %part, i64 %threads)
  %before = atomicrmw sub i32* @left, i32 1 acq_rel
  %final = icmp eq i32 %before, 1
  br i1 %final, label %finished, label %continue
finished:
  %worker = icmp ne i64 %me, 0
  br i1 %worker, label %tell, label %continue
tell:
  call void @ring(i64 0)
  br label %continue
continue:
  %last1 = phi i1 [ %last, %look ], [ %last, %take ], [ %last, %run ], [ true, %finished ], [ %last, %tell ]
  %k1 = add i64 %k, 1
  br label %next
end:
  ret i1 %last
}

; The life of a worker.
define internal i8* @worker(i8* %number) {
entry:
  %me = ptrtoint i8* %number to i64
  br label %again
again:
  call void @await(i64 %me, i64 $worker_awake)
  call void @step_aside()
  %0 = call i1 @work(i64 %me)
  br label %again
}

; On a busy machine Linux may wake a worker on the processor that the caller is on, and let them take
; turns there for long. The worker then moves to another one, if it may.
define internal void @step_aside() {
entry:
  %all.set = alloca [128 x i8]
  %all = getelementptr [128 x i8], [128 x i8]* %all.set, i64 0, i64 0
  %others.set = alloca [128 x i8]
  %others = getelementptr [128 x i8], [128 x i8]* %others.set, i64 0, i64 0
  %here = call i32 @loopgrad_system_sched_getcpu()
  %caller = load atomic i32, i32* @processor monotonic, align 4
  %same = icmp eq i32 %here, %caller
  %known = icmp ult i32 %here, 1024
  %both = and i1 %same, %known
  br i1 %both, label %move, label %end
move:
  %0 = call i32 @loopgrad_system_sched_getaffinity(i32 0, i64 128, i8* %all)
  %failed = icmp slt i32 %0, 0
  br i1 %failed, label %end, label %mask
mask:
  %set = load [128 x i8], [128 x i8]* %all.set
  store [128 x i8] %set, [128 x i8]* %others.set
  %byte.number = lshr i32 %here, 3
  %byte.at = getelementptr i8, i8* %others, i32 %byte.number
  %byte = load i8, i8* %byte.at
  %bit.number = and i32 %here, 7
  %bit.32 = shl i32 1, %bit.number
  %bit = trunc i32 %bit.32 to i8
  %rest = xor i8 %byte, %bit
  store i8 %rest, i8* %byte.at
  ; Refused where there is no other.
  %1 = call i32 @loopgrad_system_sched_setaffinity(i32 0, i64 128, i8* %others)
  %2 = call i32 @loopgrad_system_sched_setaffinity(i32 0, i64 128, i8* %all)
  br label %end
end:
  ret void
}

; Sees to it that there are `threads` threads, the caller among them, if the system gives as many.
; Returns how many of them there are. Only who has the pool may call it.
define internal i64 @start(i64 %threads) {
entry:
  %id = alloca i64
  %most.set = alloca [128 x i8]
  %most = getelementptr [128 x i8], [128 x i8]* %most.set, i64 0, i64 0
  %before.set = alloca [128 x i8]
  %before = getelementptr [128 x i8], [128 x i8]* %before.set, i64 0, i64 0
  %known = load i64, i64* @started
  %enough = icmp uge i64 %known, %threads
  br i1 %enough, label %end, label %begin
begin:
  ; Signals are for the threads of Python, but for those of a fault: SIGILL, SIGBUS, SIGFPE, SIGSEGV.
  %0 = call i32 @loopgrad_system_sigfillset(i8* %most)
  %1 = call i32 @loopgrad_system_sigdelset(i8* %most, i32 4)
  %2 = call i32 @loopgrad_system_sigdelset(i8* %most, i32 7)
  %3 = call i32 @loopgrad_system_sigdelset(i8* %most, i32 8)
  %4 = call i32 @loopgrad_system_sigdelset(i8* %most, i32 11)
  %5 = call i32 @loopgrad_system_pthread_sigmask(i32 2, i8* %most, i8* %before)
  br label %next
next:
  %w = phi i64 [ %known, %begin ], [ %w1, %made ]
  %more = icmp ult i64 %w, %threads
  br i1 %more, label %make, label %over
make:
  %semaphore = getelementptr [1024 x [64 x i8]], [1024 x [64 x i8]]* @semaphore, i64 0, i64 %w, i64 0
  %6 = call i32 @loopgrad_system_sem_init(i8* %semaphore, i32 0, i32 0)
  %caller = icmp eq i64 %w, 0
  br i1 %caller, label %made, label %create
create:
  %number = inttoptr i64 %w to i8*
  %failed = call i32 @loopgrad_system_pthread_create(i64* %id, i8* null, i8* (i8*)* @worker, i8* %number)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %created, label %over
created:
  %thread = load i64, i64* %id
  %7 = call i32 @loopgrad_system_pthread_detach(i64 %thread)
  br label %made
made:
  %w1 = add i64 %w, 1
  store i64 %w1, i64* @started
  br label %next
over:
  %8 = call i32 @loopgrad_system_pthread_sigmask(i32 2, i8* %before, i8* null)
  br label %end
end:
  %there = load i64, i64* @started
  %less = icmp ult i64 %there, %threads
  %all = select i1 %less, i64 %there, i64 %threads
  ret i64 %all
}

; ----------------------------------------------------------------------------------------- waiting

; A bell that was rung before and not heard yet is enough: who hears it looks for all there is to do.
define internal void @ring(i64 %whose) {
entry:
  %bell = getelementptr [1024 x i32], [1024 x i32]* @bell, i64 0, i64 %whose
  %before = atomicrmw xchg i32* %bell, i32 1 seq_cst
  %asleep = icmp eq i32 %before, 2
  br i1 %asleep, label %wake, label %end
wake:
  %semaphore = getelementptr [1024 x [64 x i8]], [1024 x [64 x i8]]* @semaphore, i64 0, i64 %whose, i64 0
  %0 = call i32 @loopgrad_system_sem_post(i8* %semaphore)
  br label %end
end:
  ret void
}

; Until the bell rings; awake for some nanoseconds, then asleep. The bell can be rung again afterwards.
define internal void @await(i64 %whose, i64 %awake) {
entry:
  %bell = getelementptr [1024 x i32], [1024 x i32]* @bell, i64 0, i64 %whose
  %start = call i64 @now()
  br label %test
test:
  %state = load atomic i32, i32* %bell acquire, align 4
  %rung = icmp eq i32 %state, 1
  br i1 %rung, label %end, label %watch
watch:
  $pause
  %now = call i64 @now()
  %passed = sub i64 %now, %start
  %over = icmp sgt i64 %passed, %awake
  br i1 %over, label %tired, label %patient
patient:
  ; Who is to ring may be waiting for this very processor.
  %soon = icmp sle i64 %passed, $eager
  br i1 %soon, label %test, label %yield
yield:
  %0 = call i32 @loopgrad_system_sched_yield()
  br label %test
tired:
  %changed = cmpxchg i32* %bell, i32 0, i32 2 seq_cst seq_cst
  %asleep = extractvalue { i32, i1 } %changed, 1
  br i1 %asleep, label %sleep, label %end
sleep:
  %semaphore = getelementptr [1024 x [64 x i8]], [1024 x [64 x i8]]* @semaphore, i64 0, i64 %whose, i64 0
  %interrupted = call i32 @loopgrad_system_sem_wait(i8* %semaphore)
  %again = icmp ne i32 %interrupted, 0
  br i1 %again, label %sleep, label %end
end:
  %heard = atomicrmw xchg i32* %bell, i32 0 seq_cst
  ret void
}

; Nanoseconds of the clock that only goes forward.
define internal i64 @now() {
  %now = call i64 @time(i32 1)
  ret i64 %now
}

; Nanoseconds of a clock; 0 of one that is no more.
define internal i64 @time(i32 %clock) {
entry:
  %time = alloca [2 x i64]
  store [2 x i64] zeroinitializer, [2 x i64]* %time
  %at = getelementptr [2 x i64], [2 x i64]* %time, i64 0, i64 0
  %0 = call i32 @loopgrad_system_clock_gettime(i32 %clock, i64* %at)
  %seconds = load i64, i64* %at
  %rest.at = getelementptr [2 x i64], [2 x i64]* %time, i64 0, i64 1
  %rest = load i64, i64* %rest.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}
