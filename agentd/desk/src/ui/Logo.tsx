export function Logo({ size = 32 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="logo">
      <rect width="32" height="32" rx="9" />
      <path d="M9 9.5v13M23 9.5v13" strokeWidth="3.2" />
      <path d="M9 16h3.2c1.5 0 1.7-2.6 3.1-2.6 1.5 0 1.6 5.2 3.1 5.2 1.3 0 1.4-2.6 2.8-2.6H23" strokeWidth="2.4" />
    </svg>
  )
}
