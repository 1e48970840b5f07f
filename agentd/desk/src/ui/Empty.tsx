import type { ReactNode } from 'react'

/** Empty says in a calm way that there is nothing here, and what to do about it. */
export function Empty({ icon, title, text, page = false, children }: {
  icon: ReactNode
  title: string
  text?: string
  /** It is all there is on the page. */
  page?: boolean
  children?: ReactNode
}) {
  const Title = page ? 'h1' : 'h2'
  return (
    <div className="empty">
      <span className="empty-icon" aria-hidden="true">
        {icon}
      </span>
      <Title>{title}</Title>
      {text && <p>{text}</p>}
      {children}
    </div>
  )
}
