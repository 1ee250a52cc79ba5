/* The command that command jobs run: what a CGI program prints that has nothing to say, in one write. */
#include <unistd.h>

int main(void)
{
	static const char text[] = "Content-Type: application/json\r\n\r\n{}\n";

	return write(STDOUT_FILENO, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1 ? 0 : 1;
}
