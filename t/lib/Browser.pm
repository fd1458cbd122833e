package Browser;

# A headless Chromium of a test's own, driven through chromedriver (W3C WebDriver).  Core modules only.
#
#     my $browser = Browser->start;                 # undef: no chromedriver or no chromium here
#     $browser->go("http://127.0.0.1:$port/");
#     $browser->run('return document.title');       # a function's body; arguments follow
#     $browser->run_async('const done = arguments[arguments.length - 1]; ...');
#     $browser->errors;                             # what the console has said since the last call
#
# Every request has a deadline and dies with what was asked for.  The profile is a directory of its own,
# which goes with the object, as do the processes.

use strict;
use warnings;

use Carp qw(croak);
use File::Path qw(remove_tree);
use File::Temp ();
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use POSIX qw(WNOHANG);
use Tallyd qw(free_port patience wait_until);

use constant {
	REQUEST_DEADLINE => 30,    # seconds for one command
	START_DEADLINE   => 40,    # until it is driven
	STOP_DEADLINE    => 10,
};

my @ARGUMENTS = qw(--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run
	--disable-background-networking --disable-component-update --disable-sync --disable-extensions);
push @ARGUMENTS, '--window-size=1280,1000';


sub _command {
	for my $name (@_) {
		for my $folder (split(/:/, $ENV{PATH} || ''), '/usr/bin', '/usr/lib/chromium') {
			return "$folder/$name" if -x "$folder/$name";
		}
	}
	return;
}

# With SIZE => [WIDTH, HEIGHT]: the window's.
sub start {
	my ($class) = @_;
	my $driver = _command('chromedriver') or return;
	my $chromium = _command('chromium', 'chromium-browser', 'google-chrome') or return;
	my $self = bless { creator => $$, port => free_port(), dir => File::Temp::tempdir('tallyd-browser-XXXXXXXX', TMPDIR => 1),
		http => HTTP::Tiny->new(timeout => REQUEST_DEADLINE * patience()) }, $class;
	$self->{driver} = fork;
	croak "cannot fork: $!" unless defined $self->{driver};
	if ($self->{driver} == 0) {
		# A group of its own, so that it goes with all that it started.
		setpgrp 0, 0;
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', "$self->{dir}/driver.log" or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		@ENV{qw(HOME XDG_CONFIG_HOME XDG_CACHE_HOME)} = ($self->{dir}) x 3;
		exec { $driver } $driver, "--port=$self->{port}" or POSIX::_exit(127);
	}
	wait_until { my $answer = $self->{http}->get("http://127.0.0.1:$self->{port}/status");
		$answer->{success} && $answer->{content} =~ /"ready"\s*:\s*true/ } START_DEADLINE
		or croak 'chromedriver does not get ready';
	my $made = $self->_ask('POST', '/session', { capabilities => { alwaysMatch => {
		'goog:loggingPrefs' => { browser => 'ALL' },
		'goog:chromeOptions' => { binary => $chromium, args => [@ARGUMENTS, "--user-data-dir=$self->{dir}/profile"] } } } });
	$self->{session} = "/session/$made->{sessionId}";
	$self->_ask('POST', "$self->{session}/timeouts", { script => REQUEST_DEADLINE * 1000 * patience() });
	return $self;
}

sub _ask {
	my ($self, $method, $path, $body) = @_;
	my $answer = $self->{http}->request($method, "http://127.0.0.1:$self->{port}$path",
		{ headers => { 'Content-Type' => 'application/json' }, $method eq 'POST' ? (content => JSON::PP::encode_json($body || {})) : () });
	my $told = eval { JSON::PP::decode_json($answer->{content}) };
	croak "chromedriver: $method $path: $answer->{status} " . ($told && ref $told->{value} ? $told->{value}{message} : $answer->{content})
		unless $answer->{success} && $told;
	return $told->{value};
}

sub go { my ($self, $url) = @_; return $self->_ask('POST', "$self->{session}/url", { url => $url }) }

# A new tab, in front of the others, which are hidden then; tabs are named by what this returns.
sub open_tab { my ($self) = @_; return $self->show_tab($self->_ask('POST', "$self->{session}/window/new", { type => 'tab' })->{handle}) }

sub tab { my ($self) = @_; return $self->_ask('GET', "$self->{session}/window") }

# Brings TAB to the front; everything else is about it from now on.
sub show_tab {
	my ($self, $tab) = @_;
	$self->_ask('POST', "$self->{session}/window", { handle => $tab });
	$self->set('Page.bringToFront');
	return $tab;
}

# Closes the tab that is in front and shows TAB.
sub close_tab {
	my ($self, $tab) = @_;
	$self->_ask('DELETE', "$self->{session}/window");
	return $self->show_tab($tab);
}

sub run { my ($self, $script, @arguments) = @_; return $self->_ask('POST', "$self->{session}/execute/sync", { script => $script, args => \@arguments }) }

sub run_async { my ($self, $script, @arguments) = @_; return $self->_ask('POST', "$self->{session}/execute/async", { script => $script, args => \@arguments }) }

sub _find { my ($self, $selector) = @_; return (values %{ $self->_ask('POST', "$self->{session}/element", { using => 'css selector', value => $selector }) })[0] }

sub click { my ($self, $selector) = @_; return $self->_ask('POST', "$self->{session}/element/" . $self->_find($selector) . '/click') }

# Types TEXT as a person does, over what was there.
sub type {
	my ($self, $selector, $text) = @_;
	my $element = $self->_find($selector);
	$self->_ask('POST', "$self->{session}/element/$element/clear");
	return $self->_ask('POST', "$self->{session}/element/$element/value", { text => $text });
}

# The text that is seen in the first element of SELECTOR; undef: there is none.
sub text { my ($self, $selector) = @_; return $self->run('const found = document.querySelector(arguments[0]); return found && found.innerText', $selector) }

# What a browser's own interface can set: the DevTools protocol.
sub set { my ($self, $command, %values) = @_; return $self->_ask('POST', "$self->{session}/goog/cdp/execute", { cmd => $command, params => \%values }) }

sub screenshot {
	my ($self, $path) = @_;
	my $size = $self->set('Page.getLayoutMetrics')->{cssContentSize};
	my $taken = $self->set('Page.captureScreenshot', format => 'png', captureBeyondViewport => JSON::PP::true,
		clip => { x => 0, y => 0, width => $size->{width}, height => $size->{height}, scale => 1 });
	open my $file, '>:raw', $path or croak "cannot write $path: $!";
	print {$file} decode_base64($taken->{data}) or croak "cannot write $path: $!";
	close $file or croak "cannot write $path: $!";
	return;
}

# Warnings and worse of the console since it was last asked.
sub errors { my ($self) = @_; return map { "$_->{level}: $_->{message}" } grep { $_->{level} =~ /^(?:SEVERE|WARNING)$/ } @{ $self->_ask('POST', "$self->{session}/se/log", { type => 'browser' }) } }

sub DESTROY {
	my ($self) = @_;
	return if $self->{creator} != $$;
	local ($@, $?, $!);
	eval { $self->_ask('DELETE', $self->{session}) } if $self->{session};
	if ($self->{driver}) {
		kill TERM => -$self->{driver};
		wait_until { waitpid($self->{driver}, WNOHANG) == $self->{driver} } STOP_DEADLINE;
		kill KILL => -$self->{driver};
	}
	# A browser that is not quite gone may still write to it.
	wait_until { remove_tree($self->{dir}, { safe => 1, error => \my $errors }); !-d $self->{dir} } STOP_DEADLINE;
	return;
}

1;
