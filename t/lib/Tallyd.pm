package Tallyd;

# A tallyd of a test's own: a directory, a configuration, ports, a process, and a client.
# Core modules only.
#
#     my $tallyd = Tallyd->start(config => { workers => 2, sync => 'interval' });
#     is($tallyd->event('alice', 5)->{json}{balance}, 5, 'posted');
#     is($tallyd->stop, 0, 'drained');
#
# start takes
#     config         => { key => value, ... }   over the defaults below; undef leaves a key out
#     listen         => [[ADDRESS, { key => value }], ...]; port 0 becomes a free port, and
#                       %DIR% the test's directory ('unix:%DIR%/socket')
#     data_dir       => an existing directory   (default: a new one, removed afterwards)
#     args           => [...]                   more arguments for tallyd
#     env            => { NAME => value }       for tallyd only
#     wrapper        => ['strace', '-D', ...]   put in front of the command (strace: use -D, so
#                       that the master keeps the process id that start knows)
#     binary         => a tallyd other than $ENV{TALLYD}
#     expect_failure => 1                       waits for the exit instead of for service; see
#                       exit_status and log_text
#     no_wait        => 1                       returns at once; see serves
#
# Every wait has a deadline and dies with a message that says what was waited for.  Deadlines are
# multiplied by $ENV{TALLYD_TEST_PATIENCE} (default 1; sanitizer builds and slow machines: more).
# When the test is failing the directory stays and the end of the log is shown.

use strict;
use warnings;

use Carp qw(croak);
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Exporter qw(import);
use File::Path qw(remove_tree);
use File::Temp ();
use FindBin;
use IO::Socket::IP;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX qw(WNOHANG);
use Scalar::Util qw(refaddr weaken);
use Socket qw(SOCK_STREAM MSG_NOSIGNAL);
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(wait_until read_response send_all free_port reserve_port patience source_dir build_dir slurp);

use constant {
	START_DEADLINE   => 20,       # seconds until the daemon answers
	STOP_DEADLINE    => 30,       # seconds for a drain
	REQUEST_DEADLINE => 10,       # seconds for one answer
	POLL             => 0.01,     # seconds between two looks
	LOG_TAIL         => 60,       # lines shown of a failing test's log
	FIRST_PORT       => 15_000,   # below the ephemeral ports, so that no client takes one
	LAST_PORT        => 31_000,
};

# Small tables start fast; a system call that a role should not need ends a test.
my %DEFAULTS = (
	seccomp         => 'kill',
	workers         => 2,
	log             => 'stderr',
	max_accounts    => 10_000,
	ring_size       => '1M',
	journal_segment => '1M',
);

# Every daemon that has not been cleaned up, by address; weak, so that a dropped one goes at once.
my %alive;

# A test that dies unwinds its daemons before anybody counts it as failed.
my $dying = 0;
# A shell has these ignored by what it runs in the background, and what is started here would, too.
@SIG{qw(INT QUIT)} = ('DEFAULT') x 2;
$SIG{__DIE__} = sub { $dying = 1 if defined $^S && !$^S } unless $SIG{__DIE__};

sub patience { return $ENV{TALLYD_TEST_PATIENCE} || 1 }

sub source_dir { return $ENV{TALLYD_SRC} || "$FindBin::RealBin/.." }

sub build_dir {
	return $ENV{TALLYD_BUILD} if $ENV{TALLYD_BUILD};
	my $build = source_dir() . '/build';
	return -d $build ? $build : source_dir();
}

sub slurp {
	my ($path) = @_;
	open my $file, '<', $path or croak "cannot read $path: $!";
	local $/;
	my $text = <$file>;
	return defined $text ? $text : '';
}

# Calls CONDITION until it returns something true, and returns that; or, after DEADLINE seconds, the
# last, false, value.
sub wait_until (&;$) {
	my ($condition, $deadline) = @_;
	my $end = time + ($deadline || 10) * patience();
	while (1) {
		my $value = $condition->();
		return $value if $value || time > $end;
		sleep POLL;
	}
}

# Reserves PORT for this process until its end, also while nobody listens on it: tests that run beside
# it pass it over, so that a daemon gets its port back when it is started again.  False: it is another's.
my %reserved;
sub reserve_port {
	my ($port) = @_;
	# A name that the kernel frees with its owner.  It is closed on exec: no daemon keeps it.
	$reserved{$port} ||= IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "\0tallyd-test-port-$port");
	return defined $reserved{$port};
}

# A TCP port of 127.0.0.1 and ::1 that was free a moment ago, and that no client and no other test will
# be given.
my ($next_port, $port_owner);
sub free_port {
	# A forked half of a test must not walk through the same ports beside the other.
	if (!defined $next_port || $port_owner != $$) {
		srand;
		$next_port = FIRST_PORT + int rand(LAST_PORT - FIRST_PORT);
		$port_owner = $$;
	}
	for (1 .. LAST_PORT - FIRST_PORT) {
		$next_port = FIRST_PORT if ++$next_port > LAST_PORT;
		my $socket = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => $next_port,
			Listen => 1, ReuseAddr => 1);
		return $next_port if $socket && reserve_port($next_port);
	}
	croak 'no TCP port of 127.0.0.1 is free';
}

# ---- starting and stopping

sub start {
	my ($class, %want) = @_;
	my $self = bless {
		creator => $$,
		config  => { %DEFAULTS, %{ $want{config} || {} } },
		args    => $want{args} || [],
		env     => $want{env} || {},
		wrapper => $want{wrapper} || [],
		binary  => $want{binary} || $ENV{TALLYD} || build_dir() . '/tallyd',
	}, $class;
	croak "$self->{binary} is not there: build it first (make)" unless -x $self->{binary};
	weaken($alive{ refaddr $self } = $self);
	$self->{dir} = File::Temp::tempdir('tallyd-XXXXXXXX', TMPDIR => 1);
	$self->{data_dir} = $want{data_dir};
	unless (defined $self->{data_dir}) {
		$self->{data_dir} = "$self->{dir}/data";
		mkdir $self->{data_dir}, 0700 or croak "cannot make $self->{data_dir}: $!";
	}
	for (my $config = $self->{config}) {
		$_->{data_directory} = $self->{data_dir} unless exists $_->{data_directory};
		$_->{pid_file} = "$self->{dir}/tallyd.pid" unless exists $_->{pid_file};
	}
	$self->set_listen(@{ $want{listen} || [['127.0.0.1:0', { protocol => 'http' }]] });
	return $self->start_again(expect_failure => $want{expect_failure}, no_wait => $want{no_wait});
}

# Starts the daemon on the directory and configuration of this object, after stop or kill9; with
# expect_health => 503 it serves once /healthz answers that.
sub start_again {
	my ($self, %want) = @_;
	croak 'tallyd runs already' if $self->{pid};
	$self->{log_start} = -s $self->log_file || 0;
	delete $self->{status};
	my @command = (@{ $self->{wrapper} }, $self->{binary}, '-f', '-c', $self->config_file,
		@{ $self->{args} });
	my $pid = fork;
	croak "cannot fork: $!" unless defined $pid;
	$self->_exec(@command) if $pid == 0;
	$self->{pid} = $pid;
	return $self if $want{no_wait};
	return $want{expect_failure} ? $self->_await_failure
		: $self->_await_service($want{expect_health} || 200);
}

sub _exec {
	my ($self, @command) = @_;
	# Leak detection works through ptrace, of which a process can have only one.
	$ENV{ASAN_OPTIONS} = join ':', grep { length } $ENV{ASAN_OPTIONS} || '', 'detect_leaks=0'
		if @{ $self->{wrapper} };
	$ENV{$_} = $self->{env}{$_} for keys %{ $self->{env} };
	open STDIN, '<', '/dev/null' or POSIX::_exit(126);
	open STDOUT, '>>', $self->log_file or POSIX::_exit(126);
	open STDERR, '>>&', \*STDOUT or POSIX::_exit(126);
	{ no warnings 'exec'; exec { $command[0] } @command; }
	syswrite STDERR, "cannot run $command[0]: $!\n";
	POSIX::_exit(127);
}

# True if it is there and well just now.
sub serves {
	my ($self) = @_;
	my $answer = $self->_reap ? undef : eval { $self->request('GET', '/healthz') };
	return $answer && $answer->{status} == 200;
}

sub _await_service {
	my ($self, $health) = @_;
	my $last = 'no answer yet';
	my $healthy = wait_until {
		return 1 if $self->_reap;
		my $answer = eval { $self->request('GET', '/healthz') };
		$last = $answer ? "last answer $answer->{status}" : "last error: $@";
		return $answer && $answer->{status} == $health && $self->_all_serve;
	} START_DEADLINE;
	return $self if $healthy && $self->{pid};
	my $what = $self->{pid}
		? 'did not serve within ' . START_DEADLINE * patience() . " s ($last)"
		: "exited with status $self->{status} instead of serving";
	$self->{failed} = 1;
	croak "tallyd $what; its log:\n" . $self->log_tail;
}

# The first worker answers while others may not even have their names; the master says when they all
# serve, if its log is here to be read.
sub _all_serve {
	my ($self) = @_;
	my ($log, $level) = map { defined $_ ? $_ : '' } @{ $self->{config} }{qw(log log_level)};
	return 1 if $log ne 'stderr' || $level =~ /^(?:error|warning)$/;
	return $self->log_text =~ /serving with \d+ workers/;
}

sub _await_failure {
	my ($self) = @_;
	return $self if wait_until { $self->_reap } START_DEADLINE;
	$self->{failed} = 1;
	croak 'tallyd runs, but was expected to fail; its log:' . "\n" . $self->log_tail;
}

# True once the master is gone; then exit_status is set.
sub _reap {
	my ($self) = @_;
	return 1 unless $self->{pid};
	local ($?, $!);
	my $got = waitpid $self->{pid}, WNOHANG;
	return 0 if $got == 0;
	# The caller may have waited for it itself: then the status is not ours to know.
	$self->{status} = $got < 0 ? undef : $? & 127 ? 128 + ($? & 127) : $? >> 8;
	delete $self->{pid};
	$self->_look_for_reports;
	return 1;
}

# A sanitizer's report in a child shows only in the log: it must turn the test red.
sub _look_for_reports {
	my ($self) = @_;
	return if $self->{reported};
	my @lines = grep { /(?:Address|Leak|UndefinedBehavior)Sanitizer|runtime error:/ }
		split /\n/, $self->log_text;
	return unless @lines;
	$self->{reported} = $self->{failed} = 1;
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	Test::More->builder->ok(0, "no sanitizer reports anything in tallyd: $lines[0]");
}

# The status with which the master ended: 0 to 127, or 128 + the signal that killed it; undef while
# it runs.
sub exit_status { my ($self) = @_; $self->_reap; return $self->{status} }

# SIGTERM, then waits up to TIMEOUT seconds for the end; returns the exit status.
sub stop {
	my ($self, $timeout) = @_;
	$self->term if $self->{pid};
	return $self->wait_exit($timeout);
}

# Waits up to TIMEOUT seconds until the master has ended by itself; returns the exit status.
sub wait_exit {
	my ($self, $timeout) = @_;
	$timeout ||= STOP_DEADLINE;
	return $self->{status} if wait_until { $self->_reap } $timeout;
	$self->{failed} = 1;
	croak "tallyd (pid $self->{pid}) has not ended within $timeout s; its log:\n" . $self->log_tail;
}

sub _signal {
	my ($self, $signal) = @_;
	croak "tallyd does not run: no SIG$signal for it" if $self->_reap;
	kill $signal, $self->{pid} or croak "cannot send SIG$signal to $self->{pid}: $!";
	return;
}

sub hup  { $_[0]->_signal('HUP') }
sub term { $_[0]->_signal('TERM') }
sub usr1 { $_[0]->_signal('USR1') }
sub quit { $_[0]->_signal('QUIT') }

# SIGKILL to the master; returns once every one of its processes is gone.
sub kill9 {
	my ($self) = @_;
	# Stopped, it cannot fork another child between the look and the kill.
	$self->_signal('STOP');
	# Under strace its state is "t": a fork that it is in begins again, and stops before it does.
	wait_until { (_stat($self->{pid}) || { state => 'X' })->{state} =~ /[tTZX]/ } 5;
	my @left = map { { pid => $_->{pid}, born => $_->{born} } } $self->children;
	$self->_signal('KILL');
	$self->wait_exit(10);
	wait_until { @left = grep { _alive($_) } @left; !@left } 10
		or croak 'processes outlived their master by 10 s: ' . join ' ', map { $_->{pid} } @left;
	return;
}

# The same for a daemon that may be about to end by itself: true unless it had.
sub try_term  { my ($self) = @_; return $self->_try(\&term) }
sub try_kill9 { my ($self) = @_; return $self->_try(\&kill9) }

sub _try {
	my ($self, $method) = @_;
	return 1 if eval { $self->$method; 1 };
	die $@ unless $@ =~ /^tallyd does not run/; ## no critic
	return 0;
}

# The process itself, and not another one that got its number; a zombie holds nothing.
sub _alive {
	my ($process) = @_;
	my $now = _stat($process->{pid}) or return 0;
	return $now->{born} == $process->{born} && $now->{state} !~ /[ZX]/;
}

# What /proc says of PID: its parent, name, state and start, or undef.
sub _stat {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return;
	my $line = <$file>;
	return unless defined $line && $line =~ /^(\d+) \((.*)\) (.*)/s;
	my ($name, @field) = ($2, split ' ', $3);
	return { pid => $pid, comm => $name, state => $field[0], parent => $field[1],
		born => $field[19] };
}

# The master's live children: { pid, role, born, ... }, oldest first.  The role is the name that
# the daemon gives its processes, without "tallyd-": "worker", "journal", "snap".
sub children {
	my ($self, $role) = @_;
	croak 'tallyd does not run: it has no children' unless $self->{pid};
	opendir my $proc, '/proc' or croak "cannot read /proc: $!";
	my @children;
	for my $pid (grep { /^\d+$/ } readdir $proc) {
		my $process = _stat($pid) or next;
		next if $process->{parent} != $self->{pid} || $process->{state} =~ /[ZX]/;
		($process->{role} = $process->{comm}) =~ s/^tallyd-//;
		push @children, $process unless defined $role && $process->{role} ne $role;
	}
	@children = sort { $a->{born} <=> $b->{born} || $a->{pid} <=> $b->{pid} } @children;
	return @children;
}

# ---- what the daemon is

sub pid         { return $_[0]{pid} }
sub dir         { return $_[0]{dir} }
sub data_dir    { return $_[0]{data_dir} }
sub pid_file    { return $_[0]{config}{pid_file} }
sub config_file { return "$_[0]{dir}/tallyd.conf" }
sub log_file    { return "$_[0]{dir}/log" }
sub binary      { return $_[0]{binary} }

# The address of listener INDEX (default 0) as configured: "127.0.0.1:17070", "unix:/path".
sub address { my ($self, $index) = @_; return $self->{listen}[$index || 0][0] }

sub port { my ($self, $index) = @_; return $self->address($index) =~ /:(\d+)$/ ? $1 : undef }

sub url { my ($self, $index) = @_; return 'http://' . $self->address($index) }

# ---- configuration

# Changes keys (undef: leaves the key out) and writes the file.
sub set_config {
	my ($self, %changes) = @_;
	$self->{config}{$_} = $changes{$_} for keys %changes;
	$self->write_config;
	return;
}

# Replaces the listeners (as start takes them) and writes the file.
sub set_listen {
	my ($self, @listen) = @_;
	$self->{listen} = [];
	for my $listener (@listen) {
		my ($address, $keys) = @$listener;
		$address =~ s/%DIR%/$self->{dir}/;
		$address =~ s/:0$/':' . free_port()/e;
		push @{ $self->{listen} }, [$address, $keys || {}];
	}
	$self->write_config;
	return;
}

sub _quote {
	my ($value) = @_;
	return $value if $value =~ /^(?:-?\d+(?:\.\d+)?|true|false|yes|no|on|off)$/;
	$value =~ s/([\\"])/\\$1/g;
	return qq("$value");
}

sub _assignments {
	my ($indent, $keys) = @_;
	return map { "$indent$_ = " . _quote($keys->{$_}) . "\n" } grep { defined $keys->{$_} }
		sort keys %$keys;
}

sub config_text {
	my ($self) = @_;
	my $text = join '', _assignments('', $self->{config});
	for (@{ $self->{listen} }) {
		my ($address, $keys) = @$_;
		$text .= qq(listen "$address" {\n) . join('', _assignments("\t", $keys)) . "}\n";
	}
	return $text;
}

# Writes the file: what the object knows, or TEXT instead.  Renamed into place, as an editor does.
sub write_config {
	my ($self, $text) = @_;
	$text = $self->config_text unless defined $text;
	my $path = $self->config_file;
	open my $file, '>', "$path.new" or croak "cannot write $path.new: $!";
	print {$file} $text;
	close $file or croak "cannot write $path.new: $!";
	rename "$path.new", $path or croak "cannot rename $path.new: $!";
	return;
}

# ---- the log

# All that this start wrote to stderr.
sub log_text {
	my ($self) = @_;
	my $text = -e $self->log_file ? slurp($self->log_file) : '';
	return substr $text, $self->{log_start} || 0;
}

# The log's present length: give it to wait_log to look at newer lines only.
sub log_mark { my ($self) = @_; return length $self->log_text }

sub log_tail {
	my ($self) = @_;
	my @lines = split /^/, $self->log_text;
	splice @lines, 0, @lines - LOG_TAIL if @lines > LOG_TAIL;
	return join '', @lines;
}

# Waits up to DEADLINE seconds until the log (from MARK on) matches PATTERN; true, or false.
sub wait_log {
	my ($self, $pattern, $deadline, $mark) = @_;
	return wait_until { substr($self->log_text, $mark || 0) =~ $pattern } $deadline;
}

# ---- the client

# A connected, non-blocking socket to listener INDEX (default 0).
sub raw_socket {
	my ($self, $index) = @_;
	my $address = $self->address($index);
	my $socket;
	if ($address =~ /^unix:(.*)/s) {
		$socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $1);
	} else {
		my ($host, $port) = $address =~ /^\[?(.*?)\]?:(\d+)$/ or croak "no address: $address";
		$host = '127.0.0.1' if $host eq '*' || $host eq '0.0.0.0';
		$socket = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port,
			Type => SOCK_STREAM, Timeout => REQUEST_DEADLINE * patience());
	}
	croak "cannot connect to $address: " . ($@ || $!) unless $socket;
	$socket->blocking(0);
	return $socket;
}

# The same, to be kept: for request(..., connection => ...).
sub connection { my ($self, $index) = @_; return $self->raw_socket($index) }

# One request; a body gets a Content-Length unless HEADERS set the framing.  HEADERS is a hash or, to
# repeat a name, a list of pairs.  OPTION connection => a socket of raw_socket to be used and kept
# (default: a connection of its own, closed afterwards); listener => INDEX; deadline => seconds.
# Returns what read_response does; dies if no whole answer came in time.
sub request {
	my ($self, $method, $path, $headers, $body, %option) = @_;
	my $socket = $option{connection} || $self->raw_socket($option{listener});
	send_all($socket, _request_text($method, $path, $headers, $body), $option{deadline});
	my $answer = read_response($socket, method => $method, deadline => $option{deadline});
	croak "$method $path: the connection was closed without an answer" unless $answer;
	close $socket unless $option{connection};
	return $answer;
}

sub _request_text {
	my ($method, $path, $headers, $body) = @_;
	my @pairs = ref $headers eq 'HASH' ? map { $_ => $headers->{$_} } sort keys %$headers
		: @{ $headers || [] };
	my %given = map { $pairs[$_] =~ /^(host|content-length|transfer-encoding)$/i ? (lc $1 => 1) : () }
		grep { $_ % 2 == 0 } 0 .. $#pairs;
	my $text = "$method $path HTTP/1.1\r\n";
	$text .= "Host: localhost\r\n" unless $given{host};
	while (my ($name, $value) = splice @pairs, 0, 2) {
		$text .= "$name: $value\r\n";
	}
	$text .= 'Content-Length: ' . length($body) . "\r\n"
		if defined $body && !$given{'content-length'} && !$given{'transfer-encoding'};
	return "$text\r\n" . (defined $body ? $body : '');
}

# Sends all of BYTES within DEADLINE seconds, or dies.
sub send_all {
	my ($socket, $bytes, $deadline) = @_;
	my $end = time + ($deadline || REQUEST_DEADLINE) * patience();
	utf8::downgrade($bytes, 1) or croak 'characters above 255 are not bytes: encode them first';
	while (length $bytes) {
		my $sent = send $socket, $bytes, MSG_NOSIGNAL;
		if (defined $sent) {
			substr $bytes, 0, $sent, '';
			next;
		}
		next if $! == EINTR;
		croak "cannot send: $!" unless $! == EAGAIN || $! == EWOULDBLOCK;
		_wait_ready($socket, 'write', $end)
			or croak 'timeout: the other side takes no more; ' . length($bytes) . ' bytes are left';
	}
	return;
}

sub _wait_ready {
	my ($socket, $what, $end) = @_;
	while ((my $left = $end - time) > 0) {
		my $bits = '';
		vec($bits, fileno $socket, 1) = 1;
		my ($read, $write) = $what eq 'read' ? ($bits, undef) : (undef, $bits);
		my $ready = select $read, $write, undef, $left;
		return 1 if $ready > 0;
	}
	return 0;
}

# Reads more into the socket's buffer.  True; false at the end of the stream; dies at the deadline.
sub _fill {
	my ($socket, $buffer, $end) = @_;
	while (1) {
		my $got = sysread $socket, $$buffer, 65_536, length $$buffer;
		return $got if defined $got;
		next if $! == EINTR;
		return 0 if $!{ECONNRESET};
		croak "cannot read: $!" unless $! == EAGAIN || $! == EWOULDBLOCK;
		_wait_ready($socket, 'read', $end)
			or croak 'timeout: no whole answer; so far ' . length($$buffer) . ' bytes: "'
			. substr($$buffer, 0, 200) . '"';
	}
}

# Reads one answer from SOCKET; what came after it is kept for the next call.  OPTION method => 'HEAD'
# for an answer without its body; deadline => seconds.  Returns
#     { status, reason, version, headers => { lower-case name => value }, body, json, interim }
# with json decoded where the Content-Type says so, and interim the list of 1xx statuses that came
# before (100 Continue); repeated headers are joined with ", ".  Returns undef if the stream ended
# before the first byte.
sub read_response {
	my ($socket, %option) = @_;
	my $end = time + ($option{deadline} || REQUEST_DEADLINE) * patience();
	my $buffer = \(${*$socket}{tallyd_buffer} //= '');
	my @interim;
	while (1) {
		my $answer = _read_head($socket, $buffer, $end) or return;
		if ($answer->{status} < 200) {
			push @interim, $answer->{status};
			next;
		}
		$answer->{interim} = \@interim;
		$answer->{body} = _read_body($socket, $buffer, $end, $answer, $option{method} || 'GET');
		$answer->{json} = _json($answer);
		return $answer;
	}
}

sub _read_head {
	my ($socket, $buffer, $end) = @_;
	my $at;
	while (($at = index $$buffer, "\r\n\r\n") < 0) {
		next if _fill($socket, $buffer, $end);
		return if $$buffer eq '';
		croak "the connection was closed within the head of an answer: \"$$buffer\"";
	}
	my ($first, @lines) = split /\r\n/, substr $$buffer, 0, $at;
	substr $$buffer, 0, $at + 4, '';
	$first =~ m{^(HTTP/1\.[01]) ([1-5]\d\d) (.*)$} or croak "no status line: \"$first\"";
	my %answer = (version => $1, status => $2, reason => $3, headers => {});
	for (@lines) {
		my ($name, $value) = /^([!#\$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/
			or croak "no header line: \"$_\"";
		$name = lc $name;
		my $headers = $answer{headers};
		$headers->{$name} = exists $headers->{$name} ? "$headers->{$name}, $value" : $value;
	}
	return \%answer;
}

sub _take {
	my ($socket, $buffer, $end, $length) = @_;
	while (length $$buffer < $length) {
		_fill($socket, $buffer, $end)
			or croak 'the connection was closed within a body: ' . length($$buffer)
			. " of $length bytes came";
	}
	return substr $$buffer, 0, $length, '';
}

sub _take_line {
	my ($socket, $buffer, $end) = @_;
	my $at;
	while (($at = index $$buffer, "\r\n") < 0) {
		_fill($socket, $buffer, $end) or croak 'the connection was closed within a chunked body';
	}
	my $line = substr $$buffer, 0, $at;
	substr $$buffer, 0, $at + 2, '';
	return $line;
}

# RFC 9112 6.3.
sub _read_body {
	my ($socket, $buffer, $end, $answer, $method) = @_;
	my $headers = $answer->{headers};
	return '' if $method eq 'HEAD' || $answer->{status} == 204 || $answer->{status} == 304;
	return _read_chunks($socket, $buffer, $end)
		if lc($headers->{'transfer-encoding'} || '') eq 'chunked';
	if (defined(my $length = $headers->{'content-length'})) {
		$length =~ /^\d+$/ or croak "bad Content-Length in an answer: \"$length\"";
		return _take($socket, $buffer, $end, $length);
	}
	1 while _fill($socket, $buffer, $end);
	my $body = $$buffer;
	$$buffer = '';
	return $body;
}

sub _read_chunks {
	my ($socket, $buffer, $end) = @_;
	my $body = '';
	while (1) {
		my $line = _take_line($socket, $buffer, $end);
		$line =~ /^([0-9A-Fa-f]+)(?:;.*)?$/ or croak "no chunk size: \"$line\"";
		my $length = hex $1;
		last if $length == 0;
		$body .= _take($socket, $buffer, $end, $length);
		_take_line($socket, $buffer, $end) eq '' or croak 'a chunk is longer than it says';
	}
	1 while _take_line($socket, $buffer, $end) ne '';
	return $body;
}

sub _json {
	my ($answer) = @_;
	return unless ($answer->{headers}{'content-type'} || '') =~ m{^application/(?:[\w.]+\+)?json\b}i;
	return unless length $answer->{body};
	my $value = eval { JSON::PP->new->utf8->allow_nonref->decode($answer->{body}) };
	croak "the body of an answer is no JSON: $@: \"$answer->{body}\"" if $@;
	return $value;
}

# True if SOCKET's stream ends within DEADLINE seconds (what comes before its end is dropped).
sub closed {
	my ($self, $socket, $deadline) = @_;
	my $end = time + ($deadline || REQUEST_DEADLINE) * patience();
	my $rest = '';
	return eval { 1 while _fill($socket, \$rest, $end); 1 } || 0;
}

# ---- the ledger

# Adds AMOUNT to ACCOUNT (characters, sent as UTF-8); returns the answer.  OPTIONs as request.
sub event {
	my ($self, $account, $amount, %option) = @_;
	my $body = JSON::PP->new->canonical->encode({ account => "$account", amount => $amount + 0 });
	utf8::encode($body);
	return $self->request('POST', '/events', { 'Content-Type' => 'application/json' }, $body, %option);
}

# One operation: BODY (a hash or an array, sent as JSON; a string is sent as it is; undef: none).
sub call {
	my ($self, $method, $path, $body, $headers, %option) = @_;
	$body = JSON::PP->new->utf8->canonical->encode($body) if ref $body;
	return $self->request($method, $path, $headers, $body, %option);
}

# The balance of ACCOUNT, or undef if there is no such account; dies on any other answer.
sub balance {
	my ($self, $account, %option) = @_;
	utf8::encode(my $name = $account);
	$name =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;
	my $answer = $self->request('GET', "/accounts/$name", undef, undef, %option);
	return $answer->{json}{balance} if $answer->{status} == 200;
	return if $answer->{status} == 404;
	croak "GET /accounts/$name: $answer->{status} $answer->{body}";
}

# ---- the end

# Ends the daemon and removes its directory, or keeps it if the test is failing.
sub _clean_up {
	my ($self) = @_;
	return if $self->{creator} != $$; # a forked client of the test
	local ($?, $!, $@);
	eval { $self->kill9 unless $self->_reap; 1 } or Test::More::diag("while cleaning up: $@");
	my $dir = delete $self->{dir};
	return unless defined $dir;
	delete $alive{ refaddr $self };
	# One that was killed leaves its region to its next start, and there will be none.
	my ($device, $inode) = stat $self->{data_dir};
	unlink sprintf '/dev/shm/tallyd-%x-%x', $device, $inode if defined $inode;
	if ($dying || $self->{failed} || !Test::More->builder->is_passing) {
		$self->{dir} = $dir;
		Test::More::diag("the daemon's files are kept in $dir; the end of its log:\n"
			. $self->log_tail);
		delete $self->{dir};
		return;
	}
	remove_tree($dir);
	return;
}

sub DESTROY { $_[0]->_clean_up unless ${^GLOBAL_PHASE} eq 'DESTRUCT' }

# While Test::More can still be spoken to, which at global destruction is not sure.
END { $_->_clean_up for grep { defined } values %alive }

1;
